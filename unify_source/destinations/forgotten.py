"""Deletes one person from a dataset, and stores a hash there so that later runs leave them out.

It is in a table of its own, not in dlt's state: that is written in one transaction with the
deletions, and survives when tables are dropped and reloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from secrets import token_hex
from typing import Any

import dlt

from unify_source.accounts import only, table_of
from unify_source.destinations.databases import has_table, merges_in_transactions, place_of
from unify_source.flatten.forgotten import Forgotten, digest_of
from unify_source.resources import BY_NAME, DIFFERENCES, KEY, PEOPLE, QUARANTINE

TABLE = "_unify_forgotten"

# Every database accepts so many parameters in one statement.
_MOST_VALUES = 500


def forgotten(pipeline: dlt.Pipeline, account: str | None) -> Forgotten:
    """Return the people who were deleted from a pipeline's dataset, or from one account in it."""
    if not merges_in_transactions(pipeline):
        return Forgotten()
    with pipeline.sql_client() as client:
        return _stored(client, account)


def take_out(pipeline: dlt.Pipeline, person_id: str, account: str | None) -> dict[str, int]:
    """Delete all rows of a person, and store the hash; return how many were in each table.

    All in one transaction. Copies in the staging dataset are deleted too, and not counted.
    """
    with pipeline.sql_client() as client:
        before = _stored(client, account)
        staging = client.with_staging_dataset
        with client.begin_transaction():
            _remember(client, before, person_id, account)
            named = _named(client, person_id, account)
            with staging():
                # Its rows were merged, or left by a run that died.
                named |= _named(client, person_id, account)
                _delete(client, person_id, named, account)
            return _delete(client, person_id, named, account)


def take_back_differences(pipeline: dlt.Pipeline, verify_id: str) -> None:
    """Delete the differences that one run of `verify` wrote, if any."""
    with pipeline.sql_client() as client:
        if (DIFFERENCES.name, "verify_id") in _columns(client):
            _delete_where(client, DIFFERENCES.name, "verify_id = %s", [verify_id])


def empty_staging(pipeline: dlt.Pipeline, tables: AbstractSet[str]) -> None:
    """Delete the copies of rows that merges into these tables left in the staging dataset."""
    if not tables or not merges_in_transactions(pipeline):
        return
    with pipeline.sql_client() as client, client.with_staging_dataset():
        for table in tables & {table for table, _ in _columns(client)}:
            client.execute_sql(f"DELETE FROM {client.make_qualified_table_name(table)}")  # noqa: S608


def _stored(client: Any, account: str | None) -> Forgotten:
    name = table_of(TABLE, account)
    if not has_table(client, name):
        return Forgotten()
    table = client.make_qualified_table_name(name)
    rows = client.execute_sql(f"SELECT salt, digest FROM {table}")  # noqa: S608 - our own names
    return Forgotten(rows[0][0], frozenset(digest for _, digest in rows)) if rows else Forgotten()


def _remember(client: Any, before: Forgotten, person_id: str, account: str | None) -> None:
    table = client.make_qualified_table_name(table_of(TABLE, account))
    client.execute_sql(f"CREATE TABLE IF NOT EXISTS {table} (salt VARCHAR(64), digest VARCHAR(64))")
    # A table for each account, because two accounts may have people with the same id. One salt for
    # all people, so that a run hashes each row once, however many are forgotten.
    salt = before.salt or token_hex(16)
    if not Forgotten(salt, before.digests).has(person_id):
        insert = f"INSERT INTO {table} VALUES (%s, %s)"  # noqa: S608 - our own names
        client.execute_sql(insert, salt, digest_of(person_id, salt))


def _named(client: Any, person_id: str, account: str | None) -> set[str]:
    """Return the keys of the person's rows, in every table."""
    keys, columns = {person_id}, _columns(client)
    # Twice: the second time finds the rows that die with those found the first time.
    for _ in range(2):
        for table, column in _links():
            if (table, column) in columns:
                keys |= _keys(client, table, f"lower({column})", keys, account)
    return keys


def _keys(client: Any, table: str, column: str, values: set[str], account: str | None) -> set[str]:
    name, keys = client.make_qualified_table_name(table), set()
    for some in _pieces(values):
        where = f"{only(account)} AND {column} IN ({_marks(some)})"
        rows = client.execute_sql(f"SELECT {KEY} FROM {name} WHERE {where}", *some)  # noqa: S608
        keys |= {key.lower() for (key,) in rows or []}
    return keys


def _delete(client: Any, person_id: str, named: set[str], account: str | None) -> dict[str, int]:
    columns, gone, own = _columns(client), {}, only(account)
    for table, key in (*((name, KEY) for name in BY_NAME), (DIFFERENCES.name, "key")):
        if (table, key) not in columns:
            continue
        gone[table] = sum(
            _delete_where(client, table, f"{own} AND lower({key}) IN ({_marks(some)})", some)
            for some in _pieces(named)
        )
        if table == QUARANTINE.name:
            # An unreadable row may name a person anywhere.
            where = f"{own} AND lower(raw) LIKE %s"
            gone[table] += _delete_where(client, table, where, [f"%{person_id}%"])
    return gone


def _delete_where(client: Any, table: str, where: str, values: list[str]) -> int:
    rows = f"FROM {client.make_qualified_table_name(table)} WHERE {where}"
    count = client.execute_sql(f"SELECT count(*) {rows}", *values)[0][0]
    if count:
        client.execute_sql(f"DELETE {rows}", *values)
    return int(count)


def _links() -> Iterator[tuple[str, str]]:
    """Yield the columns by which rows belong to a person, or die with a row that does."""
    for table in BY_NAME.values():
        for column in table.columns:
            if column.references == PEOPLE.name or column.name == table.dies_with:
                yield table.name, column.name


def _columns(client: Any) -> set[tuple[str, str]]:
    """Return the columns of a dataset, each with its table."""
    schema, _ = place_of(client, TABLE)
    rows = client.execute_sql(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_catalog = current_database() AND table_schema = %s",
        schema,
    )
    return {(table, column) for table, column in rows or []}


def _pieces(values: set[str]) -> Iterator[list[str]]:
    whole = sorted(values)
    for start in range(0, len(whole), _MOST_VALUES):
        yield whole[start : start + _MOST_VALUES]


def _marks(values: list[str]) -> str:
    return ", ".join(["%s"] * len(values))
