"""A Prefect flow: `python unify_flow.py 2026-05-01 2026-05-31` loads those days, the newest first.

Set UNIFY_API_KEY, and the credentials of the destination if it needs any. To load the previous day
every day, run a Prefect server, name it in PREFECT_API_URL, and run `python unify_flow.py --serve`.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import dlt
from prefect import flow, task
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL

from unify_source import UnifyError, backfill

MISCONFIGURED = 2
# Rows that became visible late belong to a day already loaded: begin a little earlier.
LOOKBACK = timedelta(minutes=10)


def is_worth_a_retry(_task: Any, _run: TaskRun, state: Any) -> bool:
    """Tell whether a retry may help: not if the key or a setting is wrong."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, UnifyError) and error.exit_code == MISCONFIGURED)


@task(retries=3, retry_delay_seconds=[30, 120, 600], retry_condition_fn=is_worth_a_retry)
def load_day(day: date) -> dict[str, Any]:
    """Load what was updated on a day in UTC; a retry resumes where this try stopped."""
    # The folder may be lost: the progress is stored with the rows.
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
        # Prefect would start a server for this process alone, which schedules nothing.
        if not PREFECT_API_URL.value():
            sys.exit("Run `prefect server start`, and set PREFECT_API_URL to its address first.")
        # `limit` lets its runs take turns.
        unify.serve(name="unify", cron="20 0 * * *", limit=1)
    else:
        unify(*map(date.fromisoformat, sys.argv[1:]))
