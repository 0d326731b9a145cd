"""A window whose merge died is the next run's first work, whichever run that is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import dlt
import pytest
from conftest import IS_SOAK, KEY, LANE
from destinations import DATASET, MACHINES, Destination, DuckDB, Postgres
from dlt.common.storages import ParsedLoadJobFileName
from dlt.load.load import Load
from lakes import Delta, DeltaOnS3, Iceberg, Parquet
from loaded import loaded
from standing import Serve, account, change
from warehouse import Rows, shown
from warehouses import BigQuery, ClickHouse

from unify_source import backfill, sync, unify_source, verify
from unify_source.common.resources import ENROLLMENTS, PEOPLE
from unify_source.destinations.locks.claims import Claim, claims_in
from unify_source.destinations.stored.unfinished import MERGES, UnfinishedMerges
from unify_source.extract.window import Window
from unify_source.sandbox import Sandbox

Run = Callable[[Destination, str], Any]

TORN = {ENROLLMENTS.name, PEOPLE.name}
END = "2030-01-01T00:00:00Z"


class Killed(BaseException):
    """A run dies."""


@contextmanager
def killed_between_merges(warehouse: Destination) -> Iterator[None]:
    """Let a run die that has merged rows of one table, and none yet of another."""
    submit, merged = Load.submit_job, set[str]()

    def submit_or_die(loading: Load, path: str, *args: Any, **kwargs: Any) -> Any:
        job = ParsedLoadJobFileName.parse(path)
        if job.file_format == warehouse.merges_by and job.table_name in TORN:
            merged.add(job.table_name)
            if merged == TORN:
                raise Killed
        return submit(loading, path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        # One after another: a job is submitted when the one before is done.
        patch.setenv("LOAD__WORKERS", "1")
        patch.setattr(Load, "submit_job", submit_or_die)
        yield


def noted(warehouse: Destination) -> dict[str, Claim]:
    with claims_in(warehouse.pipeline(), MERGES) as claims:
        assert claims
        return claims.all()


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_backfill(warehouse: Destination, url: str) -> None:
    backfill(warehouse.pipeline(), "2000-01-01", api_key=KEY, base_url=url)


def by_another_backfill(warehouse: Destination, url: str) -> None:
    """Load a range in which nothing has changed."""
    backfill(warehouse.pipeline(), "2000-01-01", "2000-01-02", api_key=KEY, base_url=url)


def by_repair(warehouse: Destination, url: str) -> None:
    verify(warehouse.pipeline(), repair=True, api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def on_a_lost_machine(warehouse: Destination, url: str) -> None:
    warehouse.pipeline(machine="lost").run(unify_source(api_key=KEY, base_url=url))


def by_an_interval(warehouse: Destination, url: str) -> None:
    """Load an interval by dlt alone, in a working folder that is lost with its machine."""
    interval = dlt.sources.incremental("updated_at", "2000-01-01T00:00:00Z", end_value=END)
    source = unify_source(api_key=KEY, base_url=url, updated_at=interval)
    warehouse.pipeline(machine="lost").run(source)


# A run by dlt alone reads its own window only.
NEXT_RUNS: tuple[Run, ...] = (by_sync, by_another_backfill)
# Seen by no cursor. Of the next runs, `verify --repair` is the slowest.
DYING: tuple[Run, ...] = (by_backfill, by_an_interval, by_repair)
CASES: list[tuple[type[Destination], Run, tuple[Run, ...]]] = [
    (DuckDB, by_backfill, (*NEXT_RUNS, by_repair)),
    (Postgres, by_an_interval, NEXT_RUNS),
    # What is there cannot be restored for another run.
    (ClickHouse, by_backfill, (by_another_backfill,)),
    (BigQuery, by_an_interval, (by_sync,)),
    (Delta, by_repair, (by_another_backfill,)),
    (DeltaOnS3, by_backfill, (by_sync,)),
    (Iceberg, by_an_interval, (by_another_backfill,)),
    (Parquet, by_repair, (by_sync,)),
]
SOAKED = [
    *((on, run, (*NEXT_RUNS, by_repair)) for on in (DuckDB, Postgres) for run in DYING),
    *((on, run, (to,)) for on, run, to in product(LANE, DYING, NEXT_RUNS)),
]


def cases() -> list[Any]:
    return [pytest.param(*case, marks=case[0].lane) for case in (SOAKED if IS_SOAK else CASES)]


@pytest.mark.promise("P5")
@pytest.mark.rounds
@pytest.mark.parametrize(("warehouse", "run", "next_runs"), cases(), indirect=["warehouse"])
def test_a_window_whose_merge_died_is_reloaded_first_by_any_next_run(
    serve: Serve, warehouse: Destination, home: Path, run: Run, next_runs: tuple[Run, ...]
) -> None:
    api = loaded(warehouse, serve)
    before = shown(api.account)
    change_without_a_trace(api)
    with killed_between_merges(warehouse), pytest.raises(Killed):
        run(warehouse, api.url)

    assert_every_next_run_heals(warehouse, api, home, before, next_runs)


def change_without_a_trace(api: Sandbox) -> None:
    """Change content without moving `updated_at`, which no cursor sees."""
    api.account.put_many(
        {**row, "status": "DRAFT", "person": {**row["person"], "first_name": "Changed"}}
        for row in api.account.rows()
    )


def assert_every_next_run_heals(
    warehouse: Destination, api: Sandbox, home: Path, before: Rows, runs: tuple[Run, ...]
) -> None:
    torn, whole = home / "torn", shown(api.account)
    assert before != warehouse.stored() != whole
    warehouse.keep(torn)
    for number, run in enumerate(runs):
        if number:
            warehouse.restore(torn)
        run(warehouse, api.url)
        assert (run, warehouse.stored()) == (run, whole)
        assert noted(warehouse) == {} or run in BY_DLT


# On that machine, dlt first loads what is still pending there.
BY_DLT: tuple[Run, ...] = (by_three_lines, on_a_lost_machine)


@pytest.mark.rounds
@pytest.mark.parametrize("warehouse", [DuckDB, *([Postgres] if IS_SOAK else [])], indirect=True)
def test_after_a_run_by_dlt_that_died_on_a_lost_machine_every_next_run_makes_the_tables_equal(
    serve: Serve, warehouse: Destination, home: Path
) -> None:
    api = loaded(warehouse, serve)
    before = shown(api.account)
    change(api.account, 100)
    with killed_between_merges(warehouse), pytest.raises(Killed):
        on_a_lost_machine(warehouse, api.url)

    assert_every_next_run_heals(warehouse, api, home, before, (*NEXT_RUNS, *BY_DLT))


@pytest.mark.long
@pytest.mark.parametrize("run", [by_sync, by_three_lines])
@pytest.mark.parametrize(
    "warehouse",
    [DuckDB, *(pytest.param(on, marks=on.lane) for on in (ClickHouse, Delta))],
    indirect=True,
)
def test_a_change_that_was_merged_in_part_and_then_undone_is_in_no_table(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    # All rows are read again, and are left alone if they are as the last finished load knew them.
    monkeypatch.setenv("SOURCES__UNIFY__LOOKBACK", "365d")
    api = serve(account(20))
    run(warehouse, api.url)
    before = api.account.rows()
    change_without_a_trace(api)
    with killed_between_merges(warehouse), pytest.raises(Killed):
        run(warehouse, api.url)
    api.account.put_many(before)
    assert warehouse.stored() != shown(api.account)

    shutil.rmtree(MACHINES)
    run(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


def test_the_note_of_a_dlt_run_is_replaced_by_the_next_and_deleted_by_a_sync(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    seen = set()
    for seed in (1, 2):
        change(api.account, 5, seed=seed)
        by_three_lines(warehouse, api.url)
        (load,) = noted(warehouse)
        seen.add(load)
        assert UnfinishedMerges(warehouse.pipeline()).half_merged() == ([], [])
    assert len(seen) == 2

    by_sync(warehouse, api.url)
    assert noted(warehouse) == {}


def test_a_run_deletes_its_own_notes_and_not_those_of_later_runs(
    serve: Serve, warehouse: Destination
) -> None:
    loaded(warehouse, serve)
    pipeline = warehouse.pipeline()
    noon = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
    own, other = Window(None, noon), Window(noon, noon + timedelta(hours=1))
    ids = ["'", "%s; {}", "\\", "a row", "b\nrow", "ü☃"]
    one, two = UnfinishedMerges(pipeline), UnfinishedMerges(pipeline)
    one.note(["1.5"], own)
    two.note(["2.5", "3.5"], other, ids)

    one.forget()
    third = UnfinishedMerges(pipeline)
    assert third.half_merged() == ([other], sorted(ids))
    third.forget()
    assert UnfinishedMerges(pipeline).half_merged() == ([], [])


def die(_pipeline: dlt.Pipeline) -> None:
    raise Killed


def test_a_first_run_that_dies_stops_no_later_run(serve: Serve, warehouse: Destination) -> None:
    api = serve(account(20))
    if isinstance(warehouse, (DuckDB, Postgres)):
        # Somebody created it, so there is a note before there is any table.
        warehouse.change(f"CREATE SCHEMA {DATASET}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dlt.Pipeline, "load", die)
        with pytest.raises(Killed):
            by_sync(warehouse, api.url)
    assert len(noted(warehouse)) == 1

    assert sync(warehouse.pipeline(), api_key=KEY, base_url=api.url).enrollments == 20
    assert sync(warehouse.pipeline(), api_key=KEY, base_url=api.url).enrollments == 0
    assert noted(warehouse) == {}
