"""Finds the days that no run has loaded since they ended.

A run loads a day up to its own time, and Dagster shows the day as loaded. A schedule that ticks
once a day, a daemon that was down or a run that failed after midnight would leave out the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone

import dagster as dg

from unify_source.common.resources import MAIN_LIST
from unify_source.dagster.specs import table_key

_MOST_DAYS = 31
_TABLE = table_key(MAIN_LIST.parts[0].table.name)
_UNDERWAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def days_to_complete(
    instance: dg.DagsterInstance, job: str, start: date, today: date, key: Callable[[date], str]
) -> list[date]:
    """Return the days before today that need another run, oldest first: at most 31.

    They follow the first day that was ever loaded: what is older is left to a backfill. A day whose
    run is under way needs no other. `key` returns a day's partition.
    """
    first = max(start, today - timedelta(days=_MOST_DAYS))
    days = [first + timedelta(days=number) for number in range((today - first).days)]
    began = {day: _last_began(instance, key(day)) for day in days}
    loaded = [day for day in days if began[day]]
    return [
        day
        for day in days
        if loaded and day >= loaded[0]
        if (at := began[day]) is None or at < _end(day)
        if not _is_underway(instance, job, key(day))
    ]


def _last_began(instance: dg.DagsterInstance, partition: str) -> datetime | None:
    """Return when the last run that loaded a partition began."""
    records = dg.AssetRecordsFilter(asset_key=_TABLE, asset_partitions=[partition])
    for record in instance.fetch_materializations(records, limit=1).records:
        # One that a user reports belongs to no run.
        run = instance.get_run_record_by_id(record.run_id) if record.run_id else None
        at = run.start_time if run and run.start_time else record.timestamp
        return datetime.fromtimestamp(at, timezone.utc)
    return None


def _end(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), timezone.utc)


def _is_underway(instance: dg.DagsterInstance, job: str, partition: str) -> bool:
    tags = {"dagster/partition": partition}
    underway = dg.RunsFilter(job_name=job, tags=tags, statuses=_UNDERWAY)
    return bool(instance.get_runs_count(underway))
