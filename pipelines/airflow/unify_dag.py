"""A DAG to copy into Airflow's folder of DAGs: each run loads what was updated in its interval.

    airflow pools set unify 1 "Loads of Unify take turns"
    airflow dags unpause unify

Needs Airflow 3.2 or newer. Where tasks are executed, set UNIFY_API_KEY, and UNIFY_DESTINATION with
the credentials of the destination, such as DESTINATION__POSTGRES__CREDENTIALS.

For several accounts, UNIFY_ACCOUNTS names them (`acme,zed`) in all of Airflow's processes. Each has
a DAG, a pool, a dataset and a key, UNIFY_API_KEY_ACME, of its own. Any other setting of an account
is JSON in UNIFY_SETTINGS_ACME, such as {"requests_per_5min": 50000}.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException

DESTINATION = os.environ.get("UNIFY_DESTINATION", "duckdb")
ACCEPTS_QUARANTINE = False
# Arguments of `backfill` that are not settings of an account.
TAKEN = {"pipeline", "start", "end", "newest_first", "restart", "only"}

# What became visible late belongs to an interval that has been loaded: begin a little earlier.
LOOKBACK = timedelta(minutes=10)
# The next interval begins where this one ends.
INSTANT = timedelta(microseconds=1)


def settings_of(account: str) -> dict[str, Any]:
    """Return the key and the settings of an account, or of the only one, from the environment."""
    suffix = f"_{account.upper()}" if account else ""
    variable = f"UNIFY_SETTINGS{suffix}"
    try:
        settings = json.loads(os.environ.get(variable, "{}"))
    except ValueError:
        settings = None
    # None of these messages shows a value: it may be a key.
    if not isinstance(settings, dict):
        raise AirflowFailException(f"{variable} is not a JSON object.")
    if taken := sorted(settings.keys() & TAKEN):
        raise AirflowFailException(f"Remove {taken[0]} from {variable}: the DAG sets it.")
    key = os.environ.get(f"UNIFY_API_KEY{suffix}") or settings.get("api_key")
    if account and not key:
        # Without one, the source would read UNIFY_API_KEY, and load another account's rows.
        raise AirflowFailException(f"UNIFY_API_KEY{suffix} is not set where tasks are executed.")
    return {**settings, "api_key": key}


def load_interval(
    name: str, settings: dict[str, Any], start: datetime | None, end: datetime | None
) -> dict[str, Any]:
    """Load one interval, and return the report. What no retry mends fails the task for good."""
    if start is None or end is None or start >= end:
        raise AirflowFailException(
            "This run has no data interval: trigger it with a logical date, and schedule it by a"
            " timetable whose intervals have a length, such as CronDataIntervalTimetable."
        )
    # dlt would ask Airflow for a variable by every name that a setting may have, hundreds of times
    # a run. Take this line out if its configuration is in the variable dlt_secrets_toml.
    os.environ.setdefault("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")
    # Here and not above: Airflow reads this file every few seconds.
    import dlt  # noqa: PLC0415

    from unify_source import UnifyError, backfill  # noqa: PLC0415

    # Nothing is lost with the folder. A retry goes on where the last try stopped, on any machine:
    # what was loaded says how far that was.
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            f"{name}_gtm", destination=DESTINATION, dataset_name=name, pipelines_dir=folder
        )
        try:
            since, until = start - LOOKBACK, end - INSTANT
            report = backfill(pipeline, since, until, **{"lock_timeout": 600, **settings})
        except UnifyError as error:
            if error.exit_code == 2:  # noqa: PLR2004 - wrong configuration, a refused key included
                raise AirflowFailException(str(error)) from None
            raise
    if report.quarantined and not ACCEPTS_QUARANTINE:
        raise AirflowFailException(f"Loaded, but {report.quarantine_line()}")
    return report.as_json()


def unify_dag(account: str) -> None:
    """Make the DAG of an account, or of the only one."""
    if account and not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", account):
        # Destinations write some names alike, and two accounts would share a dataset.
        raise ValueError(
            f"The account {account!r} cannot be part of a dataset's name. Name it in lower case:"
            " letters and digits, with single _ between them."
        )
    name = f"unify_{account}" if account else "unify"

    @dag(
        name,
        # A cron expression alone makes intervals without length.
        schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 3, "retry_exponential_backoff": True},
        doc_md=__doc__,
    )
    def definition() -> None:
        @task(pool=name)
        def load(data_interval_start: Any = None, data_interval_end: Any = None) -> dict[str, Any]:
            settings = settings_of(account)
            return load_interval(name, settings, data_interval_start, data_interval_end)

        load()

    definition()


for each in re.findall(r"[^\s,]+", os.environ.get("UNIFY_ACCOUNTS", "")) or [""]:
    unify_dag(each)
