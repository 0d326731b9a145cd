"""Runs that Dagster's daemon starts: they take turns, and a killed one resumes."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from accounts import growing
from conftest import KEY
from dagster._core.execution.backfill import PartitionBackfill
from pages import ROOT

from unify_source.sandbox import Request, Sandbox
from unify_source.times import parse_instant

pytestmark = pytest.mark.dagster

Serve = Callable[..., Sandbox]

PROJECT = ROOT / "pipelines" / "dagster"
TABLES = [dg.AssetKey(["unify", table]) for table in ("enrollments", "people")]
STEP = "unify_tables"
PATIENCE = 250


@contextmanager
def daemon(home: Path, **environment: str) -> Iterator[dg.DagsterInstance]:
    """Run the project's instance and daemon, which looks at its runs more often."""
    settings = (PROJECT / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(re.sub(r"(_seconds): 30", r"\1: 1", settings))
    os.environ["DAGSTER_HOME"] = str(home)
    # Its database is made here: two that make it at once get in each other's way.
    with dg.DagsterInstance.get() as instance, (home / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-f", str(PROJECT / "definitions.py")],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield instance
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def wanted(instance: dg.DagsterInstance, name: str, first: int, last: int) -> None:
    """Ask for a backfill of some days of May, as the button in Dagster's pages does."""
    defs = runpy.run_path(str(PROJECT / "definitions.py"))["defs"]
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id=name,
            asset_graph=defs.resolve_asset_graph(),
            partition_names=[f"2026-05-{day:02}" for day in range(first, last + 1)],
            asset_selection=TABLES,
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )


def within_patience(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := what():
            return found
        log = Path(os.environ["DAGSTER_HOME"], "daemon.log").read_text()
        assert "ERROR" not in log, log
        time.sleep(0.2)
    raise AssertionError(f"it took longer than {PATIENCE} s")


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    messages = " ".join(
        entry.user_message or entry.message for entry in instance.all_logs(run.run_id)
    )
    found = re.search(r"Started process for run \(pid: (\d+)\)", messages)
    return int(found[1]) if found else None


def spans(instance: dg.DagsterInstance) -> list[tuple[float, float]]:
    """Return from when to when each run loaded, in order."""
    found = []
    for record in instance.get_run_records():
        kind = dg.DagsterEventType.STEP_START
        for entry in instance.all_logs(record.dagster_run.run_id, of_type=kind):
            # The checks of a run are another step of it.
            found += [(entry.timestamp, record.end_time)] if entry.step_key == STEP else []
    return sorted(found)


def resumed_from(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[Any]:
    """Return from where a run's backfill went on, as Dagster shows it."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    events = instance.all_logs(run.run_id, of_type=kind)
    materialized = [entry.dagster_event.step_materialization_data for entry in events]
    facts = [data.materialization.metadata for data in materialized]
    return {each["resumed_from"].value if "resumed_from" in each else None for each in facts}


def loaded() -> set[str]:
    with duckdb.connect("unify_gtm.duckdb") as connection:
        rows = connection.execute("SELECT id FROM unify.enrollments").fetchall()
    return {row[0] for row in rows}


def test_backfills_are_a_run_each_they_take_turns_and_one_that_is_killed_goes_on(
    serve: Serve, home: Path
) -> None:
    # Of which some six hundred rows are of May.
    account, goes_on = growing(3_000, 1), threading.Event()

    def stop_in_a_later_window(_request: Request) -> None:
        if len(api.requests) > 60:
            goes_on.wait(PATIENCE)

    api = serve(account, on_request=stop_in_a_later_window)
    environment = {
        "UNIFY_API_KEY": KEY,
        "SOURCES__UNIFY__BASE_URL": api.url,
        "SOURCES__UNIFY__PAGE_SIZE": "5",
        "SOURCES__UNIFY__WINDOW_ROWS": "100",
        "SOURCES__UNIFY__WORKERS": "1",
    }
    with daemon(home, **environment) as instance:
        wanted(instance, "first", 1, 31)
        within_patience(lambda: len(api.requests) > 60)
        [killed] = instance.get_runs()
        wanted(instance, "second", 20, 31)
        within_patience(lambda: len(instance.get_runs()) == 2)
        os.kill(within_patience(lambda: process_of(instance, killed)), signal.SIGKILL)
        goes_on.set()
        within_patience(lambda: len(instance.get_runs()) == 3)
        within_patience(lambda: all(run.is_finished for run in instance.get_runs()))
        [again] = [run for run in instance.get_runs() if run.parent_run_id == killed.run_id]
        others = [run for run in instance.get_runs() if run.run_id != killed.run_id]
        assert {run.status for run in others} == {dg.DagsterRunStatus.SUCCESS}
        assert None not in resumed_from(instance, again)
        worked = spans(instance)

    assert len(worked) == 3
    assert all(end <= start for (_, end), (start, _) in pairwise(worked))
    since = datetime(2026, 5, 1, tzinfo=timezone.utc) - timedelta(minutes=10)
    rows = {row["id"]: parse_instant(row["updated_at"]) for row in account.rows()}
    may = datetime(2026, 6, 1, tzinfo=timezone.utc)
    assert loaded() == {key for key, at in rows.items() if at and since <= at < may} != set()
