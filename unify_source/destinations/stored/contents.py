"""Reads what a destination holds, in the same way from a database and from a lake."""

from __future__ import annotations

from typing import Any

import dlt
import pyarrow as pa
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.common.dlt_seam import FSClientBase
from unify_source.common.resources import BY_NAME, KEY, Column, Table
from unify_source.common.settings.accounts import only
from unify_source.destinations.lakes.merge import carried_in_lake
from unify_source.destinations.lakes.tables import rows_of
from unify_source.flatten.shared import Carried


def row_count(pipeline: dlt.Pipeline, name: str, account: str | None = None) -> int | None:
    """Return how many rows a table has, of one account or of all, None where there is no table."""
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lake = rows_of(client, BY_NAME[name], account)
        return lake.count() if lake else None
    rows = selected(client, name, "COUNT(*)", f"WHERE {only(account)}")
    return int(rows[0][0]) if rows else None


def stored_keys(pipeline: dlt.Pipeline, table: Table, account: str | None) -> list[str]:
    """Return the keys of a table's rows."""
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lake = rows_of(client, table, account)
        keys: list[str] = lake.read([KEY])[KEY].to_pylist() if lake else []
        return keys
    return [key for (key,) in selected(client, table.name, KEY, f"WHERE {only(account)}")]


def stored_rows(pipeline: dlt.Pipeline, table: Table, account: str | None) -> pa.Table | None:
    """Return the rows of a table in its promised columns, None if it has none.

    A column that an older version did not create is null. Meant for tables of some thousand rows.
    """
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lake = rows_of(client, table, account)
        rows = lake.read() if lake else None
    else:
        rows = _rows_of_database(client, table, account) if is_queried(client) else None
    if rows is None or not len(rows):
        return None
    columns = [
        rows[item.name].cast(item.type)
        if item.name in rows.schema.names
        else pa.nulls(len(rows), item.type)
        for item in table.schema()
    ]
    return pa.table(columns, schema=table.schema())


def carried_rows(
    pipeline: dlt.Pipeline, listed: Table, column: Column, account: str | None
) -> list[Carried]:
    """Return the rows that `column` of a listed row refers to, if another row owns them.

    An empty list for Parquet files, which keep what each row carries until that row is rewritten,
    and for what cannot be queried.
    """
    client: Any = pipeline.destination_client()
    table = BY_NAME[str(column.references)]
    if isinstance(client, FSClientBase):
        return carried_in_lake(table, listed, column.name, account)
    if not is_queried(client):
        return []
    with client.sql_client as sql:
        other = sql.make_qualified_table_name(table.name)
    owner = f"carried.{table.dies_with}"
    rows = selected(
        client,
        listed.name,
        f"carried.{KEY}, {owner}, listed.{KEY}",
        f"AS listed JOIN {other} AS carried ON carried.{KEY} = listed.{column.name}"
        f" WHERE {owner} <> listed.{KEY}"
        f" AND {only(account, 'listed')} AND {only(account, 'carried')}",
    )
    return [Carried(table.name, *row) for row in rows]


def _rows_of_database(client: Any, table: Table, account: str | None) -> pa.Table | None:
    with client.sql_client as sql:
        name = sql.make_qualified_table_name(table.name)
        query = f"SELECT * FROM {name} WHERE {only(account)}"  # noqa: S608 - our own names
        try:
            with sql.execute_query(query) as cursor:
                names = [column[0] for column in cursor.description]
                rows = cursor.fetchall()
        except DatabaseUndefinedRelation:
            return None
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    promised = set(table.schema().names)
    return pa.table({n: list(c) for n, c in zip(names, columns, strict=True) if n in promised})


def may_hold_rows(pipeline: dlt.Pipeline, name: str) -> bool:
    """Tell whether a table may hold rows, even to a pipeline that has never loaded it."""
    count = row_count(pipeline, name)
    client = pipeline.destination_client()
    if count is not None or not isinstance(client, FSClientBase):
        return bool(count)
    try:
        # The schema of such a pipeline does not say in which format the files are.
        return bool(client.list_table_files(name))
    except DestinationUndefinedEntity:
        return False


def is_queried(client: Any) -> bool:
    """Tell whether a destination answers SQL, unlike a function or a vector database."""
    return hasattr(client, "sql_client")


def selected(client: Any, name: str, columns: str, last: str = "") -> list[Any]:
    """Return rows of a table in a database, none where there is no such table."""
    if not is_queried(client):
        return []
    with client.sql_client as sql:
        table = sql.make_qualified_table_name(name)
        try:
            return list(sql.execute_sql(f"SELECT {columns} FROM {table} {last}") or [])  # noqa: S608 - our own names
        except DatabaseUndefinedRelation:
            return []
