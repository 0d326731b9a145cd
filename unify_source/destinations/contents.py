"""Reads what a destination holds, in the same way from a database and from a lake.

A lake is read with the libraries that write it: DuckDB, with which dlt reads files, would download
an extension for each format.
"""

from __future__ import annotations

from typing import Any

import dlt
import pyarrow as pa
import pyarrow.parquet as pq
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.accounts import only
from unify_source.destinations.lake import carried_in_lake, standing
from unify_source.dlt_seam import FSClientBase
from unify_source.flatten.shared import Carried
from unify_source.resources import AS_OF, BY_NAME, DELETED, KEY, Column, Table


def row_count(pipeline: dlt.Pipeline, name: str, account: str | None = None) -> int | None:
    """Return how many rows a table has, of one account or of all, None where there is no table."""
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        return _row_count_of_files(client, name)
    rows = selected(client, name, "COUNT(*)", f"WHERE {only(account)}")
    return int(rows[0][0]) if rows else None


def stored_rows(pipeline: dlt.Pipeline, table: Table, account: str | None) -> pa.Table | None:
    """Return the rows of a table in its promised columns, None if it has none.

    A column that an older version did not create is null. Meant for tables of some thousand rows.
    """
    client: Any = pipeline.destination_client()
    is_lake = isinstance(client, FSClientBase)
    rows = rows_of_files(client, table) if is_lake else _rows_of_database(client, table, account)
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

    An empty list for Parquet files, which keep what each row carries until that row is rewritten.
    """
    client: Any = pipeline.destination_client()
    table = BY_NAME[str(column.references)]
    if isinstance(client, FSClientBase):
        return carried_in_lake(table, listed, column.name)
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


def rows_of_files(client: Any, table: Table) -> pa.Table | None:
    """Return the rows of a lake's table, all at once, None where there is no such table."""
    if table.name not in client.schema.tables:
        return None
    table_format = client.prepare_load_table(table.name).get("table_format")
    try:
        if table_format == "delta":
            return client.load_open_table(table_format, table.name).to_pyarrow_table()
        if table_format == "iceberg":
            return client.load_open_table(table_format, table.name).scan().to_arrow()
        files = client.list_table_files(table.name)
    except DestinationUndefinedEntity:
        return None
    return _standing(client, files, table) if files else None


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


def selected(client: Any, name: str, columns: str, last: str = "") -> list[Any]:
    """Return rows of a table in a database, none where there is no such table."""
    # A destination that is a function cannot be queried.
    if not hasattr(client, "sql_client"):
        return []
    with client.sql_client as sql:
        table = sql.make_qualified_table_name(name)
        try:
            return list(sql.execute_sql(f"SELECT {columns} FROM {table} {last}") or [])  # noqa: S608 - our own names
        except DatabaseUndefinedRelation:
            return []


def _row_count_of_files(client: Any, name: str) -> int | None:
    if name not in client.schema.tables:
        return None
    table_format = client.prepare_load_table(name).get("table_format")
    try:
        if table_format == "delta":
            dataset = client.load_open_table(table_format, name).to_pyarrow_dataset()
            return int(dataset.count_rows())
        if table_format == "iceberg":
            return int(client.load_open_table(table_format, name).scan().count())
        files = client.list_table_files(name)
    except DestinationUndefinedEntity:
        return None
    table = BY_NAME[name]
    columns = [KEY, table.newest, AS_OF, DELETED, *([table.dies_with] if table.dies_with else [])]
    return len(_standing(client, files, table, columns)) if files else 0


def _standing(
    client: Any, files: list[str], table: Table, columns: list[str] | None = None
) -> pa.Table:
    loads: dict[str, list[pa.Table]] = {}
    for file in sorted(files):
        # LOAD.FILE.parquet, where the load is the second at which it began, with a fraction.
        load = ".".join(client.pathlib.basename(file).split(".")[:2])
        loads.setdefault(load, []).append(_columns_of(client, file, columns))
    return standing(table, loads)


def _columns_of(client: Any, file: str, names: list[str] | None) -> pa.Table:
    with client.fs_client.open(file, "rb") as opened:
        return pq.ParquetFile(opened).read(columns=names)
