"""Stores a hash of each person who was deleted from a dataset, so that later runs leave them out.

It is in a place of its own, not in dlt's state: it survives when tables are dropped and reloaded.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import dlt

from unify_source.destinations.databases import has_table, merges_in_transactions
from unify_source.destinations.locks.claims import Claim, Claims, claims_in
from unify_source.flatten.forgotten import Forgotten, digest_of
from unify_source.settings.accounts import table_of

TABLE = "_unify_forgotten"

# The hashes are stored as the claims of runs are, where there is no SQL that all databases know:
# each is a claim that nothing ever drops.
_PLACE = "forgotten"


def forgotten(pipeline: dlt.Pipeline, account: str | None) -> Forgotten:
    """Return the people who were deleted from a pipeline's dataset, or from one account in it."""
    if merges_in_transactions(pipeline):
        with pipeline.sql_client() as client:
            return stored(client, account)
    with claims_in(pipeline, _PLACE) as claims:
        return _claimed(claims, account) if claims else Forgotten()


def remember(pipeline: dlt.Pipeline, person_id: str, account: str | None) -> None:
    """Store the hash of a person in a lake or a warehouse."""
    with claims_in(pipeline, _PLACE) as claims:
        before = _claimed(claims, account) if claims else Forgotten()
        if claims and not before.has(person_id):
            salt = before.salt or token_hex(16)
            holder = {"salt": salt, "account": account or ""}
            claims.put(digest_of(person_id, salt), Claim("person", 1, holder))


def _claimed(claims: Claims, account: str | None) -> Forgotten:
    own = {
        digest: claim.holder["salt"]
        for digest, claim in claims.all().items()
        if claim.holder.get("account") == (account or "")
    }
    return Forgotten(next(iter(own.values())), frozenset(own)) if own else Forgotten()


def stored(client: Any, account: str | None) -> Forgotten:
    """Return the people who were deleted from a database with transactions."""
    name = table_of(TABLE, account)
    if not has_table(client, name):
        return Forgotten()
    table = client.make_qualified_table_name(name)
    rows = client.execute_sql(f"SELECT salt, digest FROM {table}")  # noqa: S608 - our own names
    return Forgotten(rows[0][0], frozenset(digest for _, digest in rows)) if rows else Forgotten()


def store(client: Any, person_id: str, account: str | None) -> None:
    """Store the hash of a person in such a database."""
    before = stored(client, account)
    table = client.make_qualified_table_name(table_of(TABLE, account))
    client.execute_sql(f"CREATE TABLE IF NOT EXISTS {table} (salt VARCHAR(64), digest VARCHAR(64))")
    # A table for each account, because two accounts may have people with the same id. One salt for
    # all people, so that a run hashes each row once, however many are forgotten.
    salt = before.salt or token_hex(16)
    if not before.has(person_id):
        insert = f"INSERT INTO {table} VALUES (%s, %s)"  # noqa: S608 - our own names
        client.execute_sql(insert, salt, digest_of(person_id, salt))
