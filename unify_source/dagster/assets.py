"""The assets: one step loads all selected tables, another creates the models."""

# No `from __future__ import annotations`: Dagster reads these types itself, and not as text.

from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg

from unify_source.common.resources import BY_NAME
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.times import EPOCH
from unify_source.dagster.partitions import Partitioning, Range, ranges
from unify_source.dagster.resources import UnifyAccount, UnifyDataset, failing_as_dagster_does
from unify_source.dagster.specs import GROUP, model_key, model_specs, table_specs
from unify_source.load.configuration.lookup import configured
from unify_source.runs.analysis.models import models
from unify_source.runs.analysis.views import make_models
from unify_source.runs.backfill import backfill
from unify_source.runs.report import Report
from unify_source.runs.status import status

# A failed run resumes where it stopped: a retry costs only what is left.
RETRIES = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL)


def unify_tables(
    partitions: Partitioning, *, pool: str = GROUP, retries: dg.RetryPolicy = RETRIES
) -> dg.AssetsDefinition:
    """Return the tables as assets of one step: a page of the API fills all of them.

    A range of partitions is one run, a `backfill` that resumes where it stopped. A selection loads
    only its tables. No cursor of `sync` moves.
    """

    @dg.multi_asset(
        name="unify_tables",
        specs=table_specs(partitions),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        pool=pool,
    )
    def load(
        context: dg.AssetExecutionContext,
        unify_account: UnifyAccount,
        unify_dataset: UnifyDataset,
    ) -> Iterator[dg.MaterializeResult]:
        names = [key.path[-1] for key in context.selected_asset_keys]
        # All tables count as no selection, so that such a run resumes an earlier one.
        only = [] if set(names) == BY_NAME.keys() else names
        rows: Counter[str] = Counter()
        facts: dict[str, Any] = {}
        for each in ranges(context.op_execution_context, partitions):
            with failing_as_dagster_does():
                report = _loaded(each, only, unify_account, unify_dataset)
                rows.update(report.rows_by_table)
                facts.update(_facts(report, each, unify_account, unify_dataset))
            for line in report.as_lines():
                context.log.info(line)
        for key in context.selected_asset_keys:
            metadata = {"rows_written": rows[key.path[-1]], **facts}
            yield dg.MaterializeResult(asset_key=key, metadata=metadata)

    return load


def _loaded(each: Range, only: list[str], account: UnifyAccount, dataset: UnifyDataset) -> Report:
    arguments = account.arguments(each.account)
    start = EPOCH
    if each.start:
        # Rows that became visible late belong to a partition already loaded.
        start = each.start - configured(**arguments).lookback
    return backfill(
        dataset.pipeline(each.account),
        start,
        each.end,
        only=only,
        lock_timeout=dataset.lock_timeout,
        **arguments,
    )


def _facts(
    report: Report, each: Range, account: UnifyAccount, dataset: UnifyDataset
) -> dict[str, Any]:
    known = status(
        dataset.pipeline(each.account),
        # In a dataset that holds several accounts: not Dagster's partition.
        account=account.arguments(each.account).get(ACCOUNT),
        lock_timeout=dataset.lock_timeout,
    )
    # Where only Dagster loads, there is no cursor: its partitions say how far the rows reach.
    cursor = report.cursor or known.runs.loaded_until
    facts = {
        "requests": report.requests,
        "quarantined": report.quarantined,
        "seconds": round(report.seconds, 1),
        "cursor": cursor and cursor.isoformat(),
        "behind_seconds": cursor and int((known.now - cursor).total_seconds()),
        "resumed_from": report.resumed_from and report.resumed_from.isoformat(),
        "latest_late_seconds": known.as_json()["latest_late_seconds"],
    }
    prefix = f"{each.account}/" if each.account else ""
    return {prefix + name: value for name, value in facts.items() if value is not None}


def unify_models(partitions: Partitioning, *, pool: str = GROUP) -> dg.AssetsDefinition:
    """Return the models as assets of one step, which makes all views, of every account."""

    # Not one at a time: views of views are made together or not at all.
    @dg.multi_asset(name="unify_models", specs=model_specs(), retry_policy=RETRIES, pool=pool)
    def make(
        context: dg.AssetExecutionContext, unify_dataset: UnifyDataset
    ) -> Iterator[dg.MaterializeResult]:
        datasets = []
        for each in ranges(context.op_execution_context, partitions):
            with failing_as_dagster_does():
                pipeline = unify_dataset.pipeline(each.account)
                views = make_models(pipeline, lock_timeout=unify_dataset.lock_timeout)
            datasets.append(views.dataset)
        # Dagster wants each behind those that it reads, as the models are listed.
        for name in models():
            yield dg.MaterializeResult(asset_key=model_key(name), metadata={"datasets": datasets})

    return make
