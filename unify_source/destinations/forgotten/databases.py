"""Deletes one person from the tables of a database."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from typing import Any

import dlt

from unify_source.common.resources import BY_NAME, DIFFERENCES, KEY, PEOPLE, QUARANTINE
from unify_source.common.settings.accounts import only
from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.forgotten.people import store

KEYS = {**dict.fromkeys(BY_NAME, KEY), DIFFERENCES.name: "key"}
"""The column by which a person's rows are deleted from each table."""

# Every database accepts so many parameters in one statement.
_MOST_VALUES = 500


def delete_from_database(
    pipeline: dlt.Pipeline, person_id: str, account: str | None
) -> dict[str, int]:
    """Delete all rows of a person, and return how many were in each table.

    Copies in the staging dataset are deleted too, and not counted. With transactions, all is one,
    and the person's hash is stored in it. Without, rows go before those by which they are found, so
    that a second try finds what a first one left.
    """
    is_whole, client = merges_in_transactions(pipeline), _client(pipeline)
    with client:
        sql = client.sql_client
        with sql.begin_transaction() if is_whole else nullcontext():
            if is_whole:
                store(sql, person_id, account)
            named = _named(client, person_id, account)
            with client.with_staging_dataset():
                # Its rows were merged, or left by a run that died.
                named |= _named(client, person_id, account)
                _delete(client, person_id, named, account)
            return _delete(client, person_id, named, account)


def take_back(pipeline: dlt.Pipeline, verify_id: str) -> None:
    """Delete the differences that one run of `verify` wrote, if any."""
    client = _client(pipeline)
    with client:
        if (DIFFERENCES.name, "verify_id") in _columns(client):
            _delete_where(client.sql_client, DIFFERENCES.name, "verify_id = %s", [verify_id])


def empty_staging(pipeline: dlt.Pipeline, tables: AbstractSet[str]) -> None:
    """Delete the copies of rows that merges into these tables left in the staging dataset."""
    if not tables or not merges_in_transactions(pipeline):
        return
    client = _client(pipeline)
    with client, client.with_staging_dataset():
        sql = client.sql_client
        for table in tables & {table for table, _ in _columns(client)}:
            sql.execute_sql(f"DELETE FROM {sql.make_qualified_table_name(table)}")  # noqa: S608


def links() -> Iterator[tuple[str, str]]:
    """Yield the columns by which rows belong to a person, or die with a row that does."""
    for table in BY_NAME.values():
        for column in table.columns:
            if column.references == PEOPLE.name or column.name == table.dies_with:
                yield table.name, column.name


def _client(pipeline: dlt.Pipeline) -> Any:
    return pipeline.destination_client()


def _named(client: Any, person_id: str, account: str | None) -> set[str]:
    """Return the keys of the person's rows, in every table."""
    keys, columns = {person_id}, _columns(client)
    # Twice: the second time finds the rows that die with those found the first time.
    for _ in range(2):
        for table, column in links():
            if (table, column) in columns:
                keys |= _keys(client.sql_client, table, f"lower({column})", keys, account)
    return keys


def _keys(sql: Any, table: str, column: str, values: set[str], account: str | None) -> set[str]:
    name, keys = sql.make_qualified_table_name(table), set()
    for some in _pieces(values):
        where = f"{only(account)} AND {column} IN ({_marks(some)})"
        rows = sql.execute_sql(f"SELECT {KEY} FROM {name} WHERE {where}", *some)  # noqa: S608
        keys |= {key.lower() for (key,) in rows or []}
    return keys


def _delete(client: Any, person_id: str, named: set[str], account: str | None) -> dict[str, int]:
    columns, gone, own, sql = _columns(client), {}, only(account), client.sql_client
    # Replies before the enrollments by which they are found.
    for table, key in reversed(KEYS.items()):
        if (table, key) not in columns:
            continue
        gone[table] = sum(
            _delete_where(sql, table, f"{own} AND lower({key}) IN ({_marks(some)})", some)
            for some in _pieces(named)
        )
        if table == QUARANTINE.name:
            # An unreadable row may name a person anywhere.
            where = f"{own} AND lower(raw) LIKE %s"
            gone[table] += _delete_where(sql, table, where, [f"%{person_id}%"])
    return {table: gone[table] for table in KEYS if table in gone}


def _delete_where(sql: Any, table: str, where: str, values: list[str]) -> int:
    rows = f"FROM {sql.make_qualified_table_name(table)} WHERE {where}"
    count = sql.execute_sql(f"SELECT count(*) {rows}", *values)[0][0]
    if count:
        sql.execute_sql(f"DELETE {rows}", *values)
    return int(count)


def _columns(client: Any) -> set[tuple[str, str]]:
    """Return the columns of a dataset, each with its table."""
    # Snowflake shows its names in capitals.
    tables = client.get_storage_tables(list(KEYS))
    return {(table, column.lower()) for table, columns in tables for column in columns}


def _pieces(values: set[str]) -> Iterator[list[str]]:
    whole = sorted(values)
    for start in range(0, len(whole), _MOST_VALUES):
        yield whole[start : start + _MOST_VALUES]


def _marks(values: list[str]) -> str:
    return ", ".join(["%s"] * len(values))
