"""A merge takes no row away unless it puts the newer one in its place, whatever fails between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest
from conftest import KEY
from destinations import DATASET, Destination, DuckDB, Postgres
from standing import account, change
from warehouse import shown

from unify_source import UnifyError, sync, unify_source
from unify_source.resources import TABLES, Table
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]
Load = Callable[[Destination, str], Any]

NAME = "no_insert"


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def forbid_newer_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row that is newer than those of the table fail."""
    name, column = f"{DATASET}.{table.name}", table.newest
    if isinstance(warehouse, Postgres):
        ((newest,),) = warehouse.ask(f"SELECT max({column})::text FROM {name}")
        check = f"CHECK ({column} <= '{newest}') NOT VALID"
        warehouse.ask(f"ALTER TABLE {name} ADD CONSTRAINT {NAME} {check}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        # DuckDB adds no constraint to a table that exists.
        columns = ", ".join(
            f'"{column}" {kind}'
            for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall()
        )
        newest = connection.execute(f"SELECT max({column})::text FROM {name}").fetchall()[0][0]
        connection.execute(f"CREATE TABLE kept AS FROM {name}")
        connection.execute(f"DROP TABLE {name}")
        connection.execute(f"CREATE TABLE {name} ({columns}, CHECK ({column} <= '{newest}'))")
        connection.execute(f"INSERT INTO {name} FROM kept")


def allow_newer_rows(warehouse: Destination, table: Table) -> None:
    name = f"{DATASET}.{table.name}"
    if isinstance(warehouse, Postgres):
        warehouse.ask(f"ALTER TABLE {name} DROP CONSTRAINT {NAME}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE kept AS FROM {name}")
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM kept")


@pytest.mark.parametrize("load", [by_sync, by_three_lines])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_insert_that_fails_leaves_every_row_where_it_was(
    serve: Serve, warehouse: Destination, table: Table, load: Load
) -> None:
    assert isinstance(warehouse, (DuckDB, Postgres))
    api = serve(account(300))
    load(warehouse, api.url)
    before = warehouse.stored()
    forbid_newer_rows(warehouse, table)
    change(api.account, 200)

    with pytest.raises(Exception) as failed:  # noqa: PT011 - dlt's own, or ours
        load(warehouse, api.url)

    assert isinstance(failed.value, UnifyError) == (load is by_sync)
    assert warehouse.stored()[table.name] == before[table.name]
    allow_newer_rows(warehouse, table)
    load(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)
