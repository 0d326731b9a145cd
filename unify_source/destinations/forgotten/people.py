"""Stores a hash of each person who was deleted from a dataset, so that later runs leave them out.

It is in a place of its own, not in dlt's state: it survives when tables are dropped and reloaded.
"""

from __future__ import annotations

from typing import Any

import dlt

from unify_source.common.settings.accounts import table_of
from unify_source.destinations.databases import has_table, merges_in_transactions
from unify_source.destinations.locks.claims import Claim, claims_in
from unify_source.flatten.forgotten import Forgotten

TABLE = "_unify_forgotten"

# Without SQL that all databases know, hashes are stored as the claims of runs are. Each is a claim
# that nothing ever drops, with the hash as its name, and the key as its turn.
_PLACE = "forgotten"


def forgotten(pipeline: dlt.Pipeline, account: str | None) -> Forgotten:
    """Return the people who were deleted from a pipeline's dataset, or from one account in it."""
    if merges_in_transactions(pipeline):
        with pipeline.sql_client() as client:
            return stored(client, account)
    with claims_in(pipeline, table_of(_PLACE, account)) as claims:
        return Forgotten(claims.names() if claims else frozenset())


def remember(pipeline: dlt.Pipeline, person_id: str, account: str | None) -> None:
    """Store the hash of a person in a lake or a warehouse."""
    with claims_in(pipeline, table_of(_PLACE, account)) as claims:
        if claims is None:
            raise TypeError(f"{pipeline.destination.destination_name} cannot store a hash.")
        before = Forgotten(claims.names())
        if not before.has(person_id):
            key, digest = before.hash_of(person_id)
            claims.put(digest, Claim(key, 1, {}))


def stored(client: Any, account: str | None) -> Forgotten:
    """Return the people who were deleted from a database with transactions."""
    name = table_of(TABLE, account)
    if not has_table(client, name):
        return Forgotten()
    table = client.make_qualified_table_name(name)
    rows = client.execute_sql(f"SELECT hash_key, digest FROM {table}")  # noqa: S608 - our own names
    return Forgotten(frozenset((key, digest) for key, digest in rows))


def store(client: Any, person_id: str, account: str | None) -> None:
    """Store the hash of a person in such a database."""
    before = stored(client, account)
    # A table for each account, because two accounts may have people with the same id.
    table = client.make_qualified_table_name(table_of(TABLE, account))
    columns = "hash_key VARCHAR(64), digest VARCHAR(64)"
    client.execute_sql(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    if not before.has(person_id):
        insert = f"INSERT INTO {table} VALUES (%s, %s)"  # noqa: S608 - our own names
        client.execute_sql(insert, *before.hash_of(person_id))
