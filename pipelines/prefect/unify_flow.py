"""A Prefect flow: `python unify_flow.py 2026-05-01 2026-05-31` loads those days, the newest first.

Set UNIFY_API_KEY, and the credentials of the destination where it has any. To load the day before,
every day: `python unify_flow.py --serve`.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import dlt
from prefect import flow, task
from prefect.client.schemas.objects import TaskRun

from unify_source import UnifyError, backfill

MISCONFIGURED = 2
# What became visible late belongs to a day that has been loaded: begin a little earlier.
LOOKBACK = timedelta(minutes=10)


def is_worth_a_retry(_task: Any, _run: TaskRun, state: Any) -> bool:
    """Tell whether a try more may help: not where the key or a setting is wrong."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, UnifyError) and error.exit_code == MISCONFIGURED)


@task(retries=3, retry_delay_seconds=[30, 120, 600], retry_condition_fn=is_worth_a_retry)
def load_day(day: date) -> dict[str, Any]:
    """Load what was updated on a day in UTC; another try goes on where this one stopped."""
    # Nothing is lost with the folder: what was loaded says how far a run has come.
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "unify_gtm", destination="duckdb", dataset_name="unify", pipelines_dir=folder
        )
        start = datetime.combine(day, time(), timezone.utc) - LOOKBACK
        # As an end, a date is the whole day.
        return backfill(pipeline, start, day, lock_timeout=600).as_json()


@flow
def unify(first: date | None = None, last: date | None = None) -> list[dict[str, Any]]:
    """Load some days, the newest first and one after another; yesterday where none is named."""
    last = last or datetime.now(timezone.utc).date() - timedelta(days=1)
    days = ((last - (first or last)).days) + 1
    return [load_day(last - timedelta(days=back)) for back in range(days)]


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        # `limit` lets its runs take turns.
        unify.serve(name="unify", cron="20 0 * * *", limit=1)
    else:
        unify(*map(date.fromisoformat, sys.argv[1:]))
