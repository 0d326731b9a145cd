"""A merge removes no row without inserting its newer version, whatever fails in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from conftest import IS_SOAK, KEY
from destinations import DATASET, MACHINES, Destination, DuckDB, Postgres
from dlt.pipeline.exceptions import PipelineStepFailed
from loaded import loaded
from standing import account, change
from warehouse import SHOWN, shown

from unify_source import UnifyError, backfill, sync, unify_source, verify
from unify_source.destinations.unfinished import TABLE, UnfinishedMerges
from unify_source.dlt_seam import quick_clients
from unify_source.extract.window import Window
from unify_source.resources import ENROLLMENTS, PEOPLE, QUARANTINE, Table
from unify_source.sandbox import Sandbox
from unify_source.times import EPOCH

Serve = Callable[..., Sandbox]
Load = Callable[[Destination, str], Any]

NAME = "no_insert"
STAGING = f"{DATASET}_staging"
BROKEN = "11111111-1111-4111-8111-111111111111"

# Elsewhere a merge is no transaction.
on_both = pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def forbid_newer_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row that is newer than those of the table fail."""
    stored = warehouse.reads(table.name, [table.newest])
    newest = max((at for (at,) in stored), default=EPOCH)
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


@pytest.mark.rounds
@on_both
def test_an_insert_that_fails_leaves_every_row_where_it_was(
    serve: Serve, warehouse: Destination, home: Path
) -> None:
    api = loaded(warehouse, serve)
    kept, package = home / "kept", home / "package"
    warehouse.keep(kept)
    change_every_table(api)
    pipeline = warehouse.pipeline()
    pipeline.extract(unify_source(api_key=KEY, base_url=api.url))
    pipeline.normalize()
    waiting = Path(pipeline.working_dir, "load")
    shutil.move(waiting, package)

    with quick_clients(pipeline):
        for table in (*SHOWN, QUARANTINE):
            shutil.copytree(package, waiting, ignore=others_than(table))
            forbid_newer_rows(warehouse, table)
            before = warehouse.stored_table(table.name)
            with pytest.raises(PipelineStepFailed, match=rf"\b{table.name}\b"):
                pipeline.load()
            assert warehouse.stored_table(table.name) == before
            warehouse.restore(kept)
            shutil.rmtree(waiting)

    shutil.move(package, waiting)
    pipeline.load()
    api.account.remove(BROKEN)
    assert warehouse.stored() == shown(api.account)


def others_than(table: Table) -> Callable[[str, list[str]], list[str]]:
    """Copy a package without the files of other tables."""

    def others(folder: str, files: list[str]) -> list[str]:
        is_for_files = Path(folder).name == "new_jobs"
        return [name for name in files if is_for_files and not name.startswith(f"{table.name}.")]

    return others


def change_every_table(api: Sandbox) -> None:
    """Change the account so that a load has rows for each table, the quarantine included."""
    account, sequence = api.account, api.account.sequences()[0]
    account.pause_sequence(sequence["id"])
    change(account, 100)
    row = account.rows()[-1]
    account.put({**row, "id": BROKEN, "is_paused": "true"})


def by_backfill(warehouse: Destination, url: str) -> None:
    backfill(warehouse.pipeline(), "2000-01-01", api_key=KEY, base_url=url)


def by_repair(warehouse: Destination, url: str) -> None:
    verify(warehouse.pipeline(), repair=True, api_key=KEY, base_url=url)


def by_another_backfill(warehouse: Destination, url: str) -> None:
    """Load a range in which nothing has changed."""
    backfill(warehouse.pipeline(), "2000-01-01", "2000-01-02", api_key=KEY, base_url=url)


def by_an_interval(warehouse: Destination, url: str) -> None:
    """Load an interval by dlt alone, in a working folder that is lost with its machine."""
    interval = dlt.sources.incremental("updated_at", "2000-01-01T00:00:00Z", end_value=END)
    source = unify_source(api_key=KEY, base_url=url, updated_at=interval)
    warehouse.pipeline(machine="lost").run(source)


def on_a_lost_machine(warehouse: Destination, url: str) -> None:
    warehouse.pipeline(machine="lost").run(unify_source(api_key=KEY, base_url=url))


END = "2030-01-01T00:00:00Z"
# A run by dlt alone reads its own window only.
NEXT_RUNS: tuple[Load, ...] = (by_sync, by_another_backfill)
SEEN_BY_NO_CURSOR: list[tuple[type[Destination], Table, Load]] = [
    (DuckDB, PEOPLE, by_backfill),
    (Postgres, ENROLLMENTS, by_an_interval),
    *(
        [
            (DuckDB, PEOPLE, by_an_interval),
            (DuckDB, ENROLLMENTS, by_repair),
            (Postgres, ENROLLMENTS, by_backfill),
            (Postgres, PEOPLE, by_repair),
        ]
        if IS_SOAK
        else []
    ),
]


@pytest.mark.rounds
@pytest.mark.parametrize(("warehouse", "table", "run"), SEEN_BY_NO_CURSOR, indirect=["warehouse"])
def test_a_window_whose_merge_died_is_reloaded_first_by_any_next_run(
    serve: Serve, warehouse: Destination, home: Path, table: Table, run: Load
) -> None:
    api = loaded(warehouse, serve)
    change_without_a_trace(api)
    forbid_rows(warehouse, table)
    with pytest.raises(Exception):  # noqa: B017, PT011 - dlt's own, or ours
        run(warehouse, api.url)
    allow_newer_rows(warehouse, table)

    assert_every_next_run_heals(warehouse, api, home, (*NEXT_RUNS, *by_repair_too(warehouse)))


def assert_every_next_run_heals(
    warehouse: Destination, api: Sandbox, home: Path, runs: tuple[Load, ...]
) -> None:
    torn = home / "torn"
    assert warehouse.stored() != shown(api.account)
    warehouse.keep(torn)
    for run in runs:
        warehouse.restore(torn)
        run(warehouse, api.url)
        assert (run, warehouse.stored()) == (run, shown(api.account))


def by_repair_too(warehouse: Destination) -> list[Load]:
    """Return the slowest run, on one destination, or in a soak on both."""
    return [by_repair] if IS_SOAK or isinstance(warehouse, DuckDB) else []


def change_without_a_trace(api: Sandbox) -> None:
    """Change content without moving `updated_at`, which no cursor sees."""
    api.account.put_many(
        {**row, "status": "DRAFT", "person": {**row["person"], "first_name": "Changed"}}
        for row in api.account.rows()
    )


@pytest.mark.rounds
@pytest.mark.parametrize("warehouse", [DuckDB, *([Postgres] if IS_SOAK else [])], indirect=True)
def test_after_a_run_by_dlt_that_died_on_a_lost_machine_every_next_run_makes_the_tables_equal(
    serve: Serve, warehouse: Destination, home: Path
) -> None:
    api = loaded(warehouse, serve)
    forbid_newer_rows(warehouse, ENROLLMENTS)
    change(api.account, 100)
    with pytest.raises(PipelineStepFailed):
        on_a_lost_machine(warehouse, api.url)
    allow_newer_rows(warehouse, ENROLLMENTS)

    # On that machine, dlt first loads what is still pending there.
    by_dlt = (by_three_lines, on_a_lost_machine)
    assert_every_next_run_heals(warehouse, api, home, (*NEXT_RUNS, *by_dlt))


@pytest.mark.long
@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
@pytest.mark.parametrize("run", [by_sync, by_three_lines])
def test_a_change_that_was_merged_in_part_and_then_undone_is_in_no_table(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch, run: Load
) -> None:
    # All rows are read again, and are left alone if they are as the last finished load knew them.
    monkeypatch.setenv("SOURCES__UNIFY__LOOKBACK", "365d")
    api = serve(account(20))
    run(warehouse, api.url)
    before = api.account.rows()
    change_without_a_trace(api)
    loaded_before = warehouse.stored()
    forbid_rows(warehouse, PEOPLE)
    # dlt merges the tables in the order of files in a folder: the one that fails may come first.
    for _ in range(10):
        with pytest.raises(Exception):  # noqa: B017, PT011 - dlt's own, or ours
            run(warehouse, api.url)
        if warehouse.stored() != loaded_before:
            break
    allow_newer_rows(warehouse, PEOPLE)
    api.account.put_many(before)
    assert warehouse.stored() != shown(api.account)

    shutil.rmtree(MACHINES)
    run(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_the_note_of_a_dlt_run_is_replaced_by_the_next_and_deleted_by_a_sync(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    for seed in (1, 2):
        change(api.account, 5, seed=seed)
        by_three_lines(warehouse, api.url)
        assert len(warehouse.reads(TABLE, ["load_id"])) == 1
        assert UnfinishedMerges(warehouse.pipeline()).half_merged() == ([], [])

    by_sync(warehouse, api.url)
    with pytest.raises(duckdb.CatalogException, match=TABLE):
        warehouse.reads(TABLE, ["load_id"])


def forbid_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row with one of the changed values fail."""
    column, value = ("first_name", "Changed") if table is PEOPLE else ("status", "DRAFT")
    add_check(warehouse, table, f"{column} IS DISTINCT FROM '{value}'")


@on_both
def test_a_run_deletes_its_own_notes_and_not_those_of_later_runs(
    serve: Serve, warehouse: Destination
) -> None:
    loaded(warehouse, serve)
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


@on_both
def test_a_first_run_that_dies_in_a_dataset_that_somebody_created_stops_no_later_run(
    serve: Any, warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account(20))
    warehouse.change(f"CREATE SCHEMA {DATASET}")

    def die(_pipeline: dlt.Pipeline) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(dlt.Pipeline, "load", die)
        with pytest.raises(KeyboardInterrupt):
            sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)
    assert warehouse.ask(f"SELECT count(*) FROM {DATASET}.{TABLE}") == [(1,)]

    assert sync(warehouse.pipeline(), api_key=KEY, base_url=api.url).enrollments == 20
    assert sync(warehouse.pipeline(), api_key=KEY, base_url=api.url).enrollments == 0


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_a_first_load_by_dlt_fills_a_dataset_that_somebody_created_for_it(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(20))
    warehouse.change(f"CREATE SCHEMA {DATASET}")

    by_three_lines(warehouse, api.url)

    assert warehouse.stored() == shown(api.account)


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

    for _ in range(2):
        by_sync(warehouse, api.url)
        assert warehouse.stored() == shown(api.account)
