"""All of it together: assets, checks, a job, its schedule and the resources."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

from unify_source.dagster.assets import unify_models, unify_tables
from unify_source.dagster.catch_up import days_to_complete
from unify_source.dagster.checks import unify_checks
from unify_source.dagster.partitions import (
    ACCOUNTS,
    Partitioning,
    daily,
    daily_by_account,
    first_day,
    key_of,
)
from unify_source.dagster.resources import UnifyAccount, UnifyDataset
from unify_source.dagster.specs import GROUP

JOB, SCHEDULE = "unify_job", "unify_schedule"
HOURLY = "20 * * * *"
# Whatever the schedule, the first run of a day ends the day before: a partition that is read up to
# its last minute alone would miss what becomes visible in the next.
_BACK = timedelta(hours=1)


def unify_definitions(
    start: str | date,
    *,
    by_account: bool = False,
    account: UnifyAccount | None = None,
    dataset: UnifyDataset | None = None,
    cron: str = HOURLY,
    pool: str = GROUP,
) -> dg.Definitions:
    """Return everything, for days from `start` on; merge it with definitions of your own.

    With `by_account`, accounts are a second dimension of the partitions. Steps that use the dataset
    are in one `pool`, whose limit is set in Dagster: one, so that they take turns. The schedule
    loads the day so far, and earlier days that no run has loaded since they ended.
    """
    partitions: Partitioning = daily_by_account(start) if by_account else daily(start)
    tables = unify_tables(partitions, pool=pool)
    views = unify_models(partitions, pool=pool)
    checks = unify_checks(partitions, pool=pool)
    selection = dg.AssetSelection.assets(tables, views) | dg.AssetSelection.checks(checks)
    return dg.Definitions(
        assets=[tables, views],
        asset_checks=[checks],
        jobs=[dg.define_asset_job(JOB, selection)],
        schedules=[_schedule(cron, first_day(start), by_account=by_account)],
        resources={
            "unify_account": account or UnifyAccount(),
            "unify_dataset": dataset or UnifyDataset(),
        },
    )


def _schedule(cron: str, start: date, *, by_account: bool) -> dg.ScheduleDefinition:
    @dg.schedule(job_name=JOB, cron_schedule=cron, name=SCHEDULE)
    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        at, instance = context.scheduled_execution_time, context.instance
        today = (at - _BACK).date()
        if today < start:
            return
        accounts = instance.get_dynamic_partitions(ACCOUNTS) if by_account else [None]
        for account in accounts:

            def key(day: date, account: str | None = account) -> str:
                return key_of(account, day.isoformat()) if account else day.isoformat()

            for day in [*days_to_complete(instance, JOB, start, today, key), today]:
                # Of two requests without a key Dagster would drop one.
                yield dg.RunRequest(f"{key(day)} {at.isoformat()}", partition_key=key(day))

    return requests
