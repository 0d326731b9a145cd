"""A merge takes no row away unless it puts the newer one in its place, whatever fails between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from conftest import IS_SOAK, KEY
from destinations import DATASET, Destination, DuckDB, Postgres
from standing import account, change
from warehouse import shown

from unify_source import UnifyError, backfill, sync, unify_source, verify
from unify_source.destinations.unfinished import UnfinishedMerges
from unify_source.extract.window import Window
from unify_source.resources import ENROLLMENTS, PEOPLE, TABLES, Table
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]
Load = Callable[[Destination, str], Any]

NAME = "no_insert"
STAGING = f"{DATASET}_staging"

# Elsewhere a merge is no transaction.
on_both = pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def forbid_newer_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row that is newer than those of the table fail."""
    newest = max(at for (at,) in warehouse.reads(table.name, [table.newest]))
    add_check(warehouse, table, f"{table.newest} <= '{newest.isoformat()}'")


def add_check(warehouse: Destination, table: Table, condition: str) -> None:
    """Let every INSERT of a row fail that does not meet a condition."""
    name = f"{DATASET}.{table.name}"
    if isinstance(warehouse, Postgres):
        check = f"CHECK ({condition}) NOT VALID"
        warehouse.ask(f"ALTER TABLE {name} ADD CONSTRAINT {NAME} {check}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        # DuckDB adds no constraint to a table that exists, and checks the rows that it copies.
        columns = ", ".join(
            f'"{column}" {kind}'
            for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall()
        )
        connection.execute(f"CREATE TABLE kept AS FROM {name}")
        connection.execute(f"DROP TABLE {name}")
        connection.execute(f"CREATE TABLE {name} ({columns}, CHECK ({condition}))")
        where = f"WHERE {condition}"
        connection.execute(f"INSERT INTO {name} SELECT * FROM kept {where}")


def allow_newer_rows(warehouse: Destination, table: Table) -> None:
    name = f"{DATASET}.{table.name}"
    if isinstance(warehouse, Postgres):
        warehouse.ask(f"ALTER TABLE {name} DROP CONSTRAINT {NAME}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE kept AS FROM {name}")
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM kept")
        connection.execute("DROP TABLE kept")


def assert_failed_inserts_take_no_row_away(
    warehouse: Destination, api: Sandbox, table: Table, load: Load
) -> None:
    before = warehouse.stored_table(table.name)
    forbid_newer_rows(warehouse, table)
    change(api.account, 100, seed=TABLES.index(table))

    with pytest.raises(Exception) as failed:  # noqa: PT011 - dlt's own, or ours
        load(warehouse, api.url)

    assert isinstance(failed.value, UnifyError) == (load is by_sync)
    assert warehouse.stored_table(table.name) == before
    allow_newer_rows(warehouse, table)


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("warehouse", "tables"),
    [(DuckDB, TABLES if IS_SOAK else TABLES[::2]), (Postgres, TABLES if IS_SOAK else TABLES[5:])],
    indirect=["warehouse"],
)
def test_an_insert_that_fails_leaves_every_row_where_it_was(
    serve: Serve, warehouse: Destination, tables: tuple[Table, ...]
) -> None:
    api = serve(account(120))
    by_sync(warehouse, api.url)

    for table in tables:
        assert_failed_inserts_take_no_row_away(warehouse, api, table, by_sync)

    by_sync(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.parametrize(
    ("warehouse", "table"), [(DuckDB, PEOPLE), (Postgres, ENROLLMENTS)], indirect=["warehouse"]
)
def test_an_insert_that_fails_in_a_run_of_dlt_leaves_every_row_where_it_was(
    serve: Serve, warehouse: Destination, table: Table
) -> None:
    api = serve(account(120))
    by_three_lines(warehouse, api.url)

    assert_failed_inserts_take_no_row_away(warehouse, api, table, by_three_lines)

    by_three_lines(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


def by_backfill(warehouse: Destination, url: str) -> None:
    backfill(warehouse.pipeline(), "2000-01-01", api_key=KEY, base_url=url)


def by_repair(warehouse: Destination, url: str) -> None:
    verify(warehouse.pipeline(), repair=True, api_key=KEY, base_url=url)


TWINS = [
    (DuckDB, ENROLLMENTS, by_repair),
    (Postgres, PEOPLE, by_repair),
    (Postgres, ENROLLMENTS, by_backfill),
]


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("warehouse", "table", "run"),
    [
        (DuckDB, PEOPLE, by_backfill),
        (Postgres, ENROLLMENTS, by_repair),
        *(TWINS if IS_SOAK else ()),
    ],
    indirect=["warehouse"],
)
def test_a_run_whose_merge_failed_is_the_first_work_of_the_next_sync(
    serve: Serve, warehouse: Destination, table: Table, run: Load
) -> None:
    api = serve(account(120))
    by_sync(warehouse, api.url)
    # What no cursor sees: content that changed, and left `updated_at` where it was.
    api.account.put_many(
        {**row, "status": "DRAFT", "person": {**row["person"], "first_name": "Changed"}}
        for row in api.account.rows()
    )
    forbid_rows(warehouse, table)

    with pytest.raises(UnifyError):
        run(warehouse, api.url)
    assert warehouse.stored() != shown(api.account)

    allow_newer_rows(warehouse, table)
    by_sync(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


def forbid_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row with one of the changed values fail."""
    column, value = ("first_name", "Changed") if table is PEOPLE else ("status", "DRAFT")
    add_check(warehouse, table, f"{column} IS DISTINCT FROM '{value}'")


@on_both
def test_a_run_that_ends_forgets_what_it_noted_and_not_what_another_has_noted_since(
    serve: Serve, warehouse: Destination
) -> None:
    by_sync(warehouse, serve(account(20)).url)
    pipeline = warehouse.pipeline()
    noon = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
    own, other = Window(None, noon), Window(noon, noon + timedelta(hours=1))
    one, two = UnfinishedMerges(pipeline), UnfinishedMerges(pipeline)
    one.note(["1.5"], own)
    two.note(["2.5"], other, ["a row", "b row"])

    one.forget()
    third = UnfinishedMerges(pipeline)
    assert third.half_merged() == ([other], ["a row", "b row"])
    third.forget()
    assert UnfinishedMerges(pipeline).half_merged() == ([], [])


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_a_first_load_that_fails_leaves_a_folder_in_which_every_later_run_works(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(20))
    # dlt takes it for the staging table, and cannot write a row into it.
    warehouse.change_each(
        [f"CREATE SCHEMA {STAGING}", f"CREATE VIEW {STAGING}.people AS SELECT 1 AS id"]
    )
    with pytest.raises(UnifyError):
        by_sync(warehouse, api.url)
    warehouse.change(f"DROP VIEW {STAGING}.people")

    for run in (by_sync, by_sync, by_three_lines):
        run(warehouse, api.url)
        assert warehouse.stored() == shown(api.account)
