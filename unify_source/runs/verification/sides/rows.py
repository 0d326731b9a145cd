"""Streams the rows of a table that may be larger than memory, or deletes rows by key."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dlt
import duckdb
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.common.dlt_seam import FSClientBase
from unify_source.common.resources import BY_NAME, KEY
from unify_source.common.settings.accounts import of_account, only
from unify_source.destinations.lakes.tables import rows_of
from unify_source.flatten.values import ARROW_TYPES

_BATCH = 50_000
_KEYS_AT_ONCE = 1_000
# Their drivers fetch a whole result before the first row, unless a server-side cursor is used.
_WITH_CURSORS = ("postgres", "redshift")

_log = logging.getLogger(__name__)


def batches(
    pipeline: dlt.Pipeline, name: str, types: Mapping[str, str], where: str, account: str | None
) -> Iterator[pa.Table]:
    """Yield these columns of an account's rows, in any order; nothing if there is no table.

    `types` are dlt's; the batches have the destination's. `where` is a condition in its SQL, if it
    has SQL. Parquet files hold every version of a row: of those, only the newest are yielded, in
    one batch.
    """
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        if lake := rows_of(client, BY_NAME[name], account):
            yield from lake.batches(list(types))
        return
    where = of_account(account, where)
    with client.sql_client as sql:
        try:
            if sql.capabilities.sqlglot_dialect in _WITH_CURSORS:
                yield from _by_cursor(sql, name, types, where)
                return
            query = _query(sql, name, map(sql.escape_column_name, types), where)
            for rows in _by_arrow(sql, query):
                yield rows.rename_columns(list(types))
        except (DatabaseUndefinedRelation, duckdb.CatalogException):
            return


def _query(sql: Any, name: str, columns: Iterable[str], where: str) -> str:
    table = sql.make_qualified_table_name(name)
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"


def _by_arrow(sql: Any, query: str) -> Iterator[pa.Table]:
    if isinstance(sql.native_connection, duckdb.DuckDBPyConnection):
        # dlt's cursor would hold the whole result; a relation streams it.
        relation: Any = sql.native_connection.sql(query)
        read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        for batch in read(_BATCH):
            yield pa.Table.from_batches([batch])
        return
    with sql.execute_query(query) as cursor:
        for rows in cursor.iter_arrow(chunk_size=_BATCH):
            # Those of BigQuery's client are no tables.
            yield rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])


def _by_cursor(sql: Any, name: str, types: Mapping[str, str], where: str) -> Iterator[pa.Table]:
    # As text: the driver would parse JSON and round its numbers.
    columns = [
        f"CAST({sql.escape_column_name(column)} AS text)"
        if kind == "json"
        else sql.escape_column_name(column)
        for column, kind in types.items()
    ]
    with sql.begin_transaction():
        sql.execute_sql(
            f"DECLARE unify_rows NO SCROLL CURSOR FOR {_query(sql, name, columns, where)}"
        )
        while rows := sql.execute_sql(f"FETCH {_BATCH} FROM unify_rows"):
            values = zip(*rows, strict=True)
            yield pa.table(
                {
                    column: pa.array(list(cells), ARROW_TYPES[kind])
                    for (column, kind), cells in zip(types.items(), values, strict=True)
                }
            )


def remove(pipeline: dlt.Pipeline, name: str, keys: Sequence[str], account: str | None) -> None:
    """Delete all rows of a table, or of one account, that have one of these keys.

    Nothing can be deleted from Parquet files; a warning is logged.
    """
    if not keys:
        return
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lake = rows_of(client, BY_NAME[name], account)
        if lake and not lake.delete(keys):
            _log.warning("%s is in Parquet files, from which rows cannot be deleted.", name)
        return
    with pipeline.sql_client() as sql:
        table = sql.make_qualified_table_name(name)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            marks = ", ".join(["%s"] * len(some))
            sql.execute_sql(
                f"DELETE FROM {table} WHERE {only(account)} AND {KEY} IN ({marks})", *some
            )


def keep_one(pipeline: dlt.Pipeline, name: str, keys: Sequence[str], account: str | None) -> None:
    """Keep only the newest row of each of these keys in a table of a lake, or in one account."""
    lake = rows_of(pipeline.destination_client(), BY_NAME[name], account)
    if lake:
        lake.keep_newest(keys, BY_NAME[name].newest)


def merges_leave_doubles(pipeline: dlt.Pipeline) -> bool:
    """Tell whether a merge updates both of two rows with the same key, and keeps both."""
    return isinstance(pipeline.destination_client(), FSClientBase)
