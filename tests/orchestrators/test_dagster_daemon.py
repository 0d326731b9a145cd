"""Runs that Dagster's daemon starts: they take turns, and a killed one resumes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from accounts import growing
from conftest import KEY
from dagsters import PATIENCE, daemon, days, process_of, spans, wanted, within_patience

from unify_source.common.times import parse_instant
from unify_source.sandbox import Request, Sandbox

pytestmark = pytest.mark.dagster

Serve = Callable[..., Sandbox]


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
    with daemon(home, environment) as instance:
        wanted(instance, "first", days(1, 31))
        within_patience(lambda: len(api.requests) > 60)
        [killed] = instance.get_runs()
        wanted(instance, "second", days(20, 31))
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
