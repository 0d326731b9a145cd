"""Tells which databases have known SQL and transactions, and whether a dataset has a table."""

from __future__ import annotations

from typing import Any

import dlt

from unify_source.common.dlt_seam import kind_of

# A connection may see other databases, with a dataset of the same name: all of MotherDuck's.
_TABLES_OF_DUCKDB = (
    "duckdb_tables()"
    " WHERE database_name = current_database() AND schema_name = %s AND table_name = %s"
)
# Postgres hides a table in information_schema from a role that may not read it: then nobody would
# have been forgotten.
_TABLES_OF_POSTGRES = "pg_catalog.pg_tables WHERE schemaname = %s AND tablename = %s"

_KINDS = ("duckdb", "motherduck", "postgres", "redshift")


def merges_in_transactions(pipeline: dlt.Pipeline) -> bool:
    """Tell whether a pipeline's destination is a database with known SQL and transactions."""
    return kind_of(pipeline.destination) in _KINDS


def has_table(client: Any, name: str) -> bool:
    """Tell whether such a database has a table; `client` is an open SQL client.

    In DuckDB, the first exception of a process takes three megabytes: a query must not raise one.
    """
    of_duckdb = client.capabilities.sqlglot_dialect == "duckdb"
    query = f"SELECT 1 FROM {_TABLES_OF_DUCKDB if of_duckdb else _TABLES_OF_POSTGRES}"  # noqa: S608
    return bool(client.execute_sql(query, *place_of(client, name)))


def table_exists(pipeline: dlt.Pipeline, client: Any, name: str) -> bool:
    """Tell whether a dataset has a table, on any destination that answers SQL; `client` is open.

    On databases it does not read the table's columns, as dlt's own way does.
    """
    if merges_in_transactions(pipeline):
        return has_table(client.sql_client, name)
    exists, _ = client.get_storage_table(name)
    return bool(exists)


def place_of(client: Any, name: str) -> list[str]:
    """Return the schema and the name of a table, as such a database stores them."""
    place: list[str] = client.make_qualified_table_name_path(name, quote=False)
    return place[-2:]
