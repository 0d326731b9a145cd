"""The state that a run restores depends on the order of loads, not on any machine's clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dlt
import duckdb
import pytest
from conftest import KEY
from destinations import DATASET, Destination, DuckDB, Postgres, opened
from dlt.common.time import increasing_precise_time, precise_time
from listing import listing, version

from unify_source import sync, unify_source
from unify_source.destinations.stored.history import last_loads
from unify_source.load.packages import cursor
from unify_source.runs.report import Report

AHEAD = 3_600
# What dlt writes by the clock of the machine that loads.
TIMES = {
    "_dlt_loads": ("load_id", "inserted_at"),
    "_dlt_pipeline_state": ("_dlt_load_id", "created_at"),
    "_dlt_version": (None, "inserted_at"),
}


@pytest.fixture(params=[DuckDB, Postgres], ids=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    """Yield an empty destination."""
    with opened(request.param, home, request) as found:
        yield found


def set_clock_ahead(warehouse: Destination) -> None:
    """Date all loads so far by a clock that is an hour ahead."""
    for table, (load_id, at) in TIMES.items():
        ids = f", {load_id} = CAST(CAST({load_id} AS DOUBLE PRECISION) + {AHEAD} AS VARCHAR)"
        later = f"{at} = {at} + INTERVAL '{AHEAD} seconds'{ids if load_id else ''}"
        statement = f"UPDATE {DATASET}.{table} SET {later}"
        if isinstance(warehouse, Postgres):
            warehouse.ask(statement)
        else:
            (file,) = warehouse.environment.values()
            with duckdb.connect(file) as connection:
                connection.execute(statement)


def store_schemas_ahead(home: Path, name: str) -> None:
    """Date all stored schemas by a clock that is an hour ahead."""
    if name == "duckdb":
        with duckdb.connect(str(home / "w.duckdb")) as connection:
            later = f"inserted_at = inserted_at + INTERVAL '{AHEAD} seconds'"
            connection.execute(f"UPDATE d._dlt_version SET {later}")
    for file in home.glob("lake/d/_dlt_version/unify__*"):
        schema, second, version = file.name.split("__")
        file.rename(file.with_name(f"{schema}__{float(second) + AHEAD}__{version}"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["duckdb", "filesystem"])
def test_a_dlt_run_resumes_from_the_last_run_even_if_another_clock_is_ahead(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", str(home / "lake"))
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(home / "w.duckdb"))
    # Of all formats of a lake, since dlt keeps state, loads and schemas in the same files for each.
    monkeypatch.setenv("SOURCES__UNIFY__TABLE_FORMAT", "parquet")
    rows: list[dict[str, object]] = []
    scores: dict[str, dict[str, object]] = {
        "ahead": {},
        "right": {"score": 1},
        "empty": {"score": "n/a"},
        "last": {"score": "n/a"},
    }
    for number, (machine, score) in enumerate(scores.items(), 1):
        rows.append(version(f"e{number}", f"0{number}Z", **score))
        folder = str(home / machine)
        with listing(rows) as url, monkeypatch.context() as patch:
            now = precise_time() + (AHEAD if machine == "ahead" else 0)
            # Each machine has ids by its own clock, and knows of no other.
            patch.setattr(increasing_precise_time, "_last", now)
            pipeline = dlt.pipeline("p", destination=name, dataset_name="d", pipelines_dir=folder)
            info = pipeline.run(unify_source(api_key=KEY, base_url=url, lookback=0))

            assert cursor(pipeline) == datetime(2026, 5, 31, 8, 0, number, tzinfo=timezone.utc)
            loads = [load for _, load, _ in last_loads(pipeline.destination_client(), 9)]
            assert loads[0] == info.loads_ids[-1]
        if machine == "ahead":
            store_schemas_ahead(home, name)

    columns = pipeline.schemas["unify"].get_table("enrollments")["columns"]
    assert (columns["score"]["data_type"], columns["score__v_text"]["data_type"]) == (
        "bigint",
        "text",
    )


@pytest.mark.mostly_on_duckdb
def test_a_run_resumes_from_the_last_one_even_if_another_clock_is_ahead(
    warehouse: Destination,
) -> None:
    def load(machine: str, key: str, second: str, **more: object) -> Report:
        # The rows that were there stay: a run that began at an older cursor would read them.
        rows.append(version(key, f"{second}Z", **more))
        with listing(rows) as url:
            pipeline = warehouse.pipeline(machine)
            report = sync(pipeline, api_key=KEY, base_url=url, lookback=0)
            cursors.append(cursor(pipeline))
            return report

    rows: list[dict[str, object]] = []
    cursors: list[datetime | None] = []
    load("ahead", "e1", "01")
    set_clock_ahead(warehouse)

    assert load("right", "e2", "02", score=1).enrollments == 1
    for number in range(3, 6):
        report = load(f"empty {number}", f"e{number}", f"0{number}", score="n/a")

        assert report.enrollments == 1
        assert any("score" in notice for notice in report.notices) == (number == 3)

    seconds = [datetime(2026, 5, 31, 8, 0, n, tzinfo=timezone.utc) for n in range(1, 6)]
    assert cursors == seconds
    columns = warehouse.columns("enrollments")
    assert (columns["score"], columns["score__v_text"]) == ("bigint", "text")
