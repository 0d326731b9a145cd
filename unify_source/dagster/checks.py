"""Asset checks: `verify` compares each table with the API."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg

from unify_source.common.resources import BY_NAME, QUARANTINE
from unify_source.dagster.assets import RETRIES
from unify_source.dagster.partitions import Partitioning, ranges
from unify_source.dagster.resources import UnifyAccount, UnifyDataset, failing_as_dagster_does
from unify_source.dagster.specs import GROUP, table_key
from unify_source.runs.verification.verify import verify

EQUALS_API, IS_EMPTY = "equals_api", "is_empty"


def unify_checks(partitions: Partitioning, *, pool: str = GROUP) -> dg.AssetChecksDefinition:
    """Return a check for each table: one `verify` of the run's partitions, or of all."""

    @dg.multi_asset_check(
        name="unify_checks",
        specs=list(_specs()),
        can_subset=True,
        retry_policy=RETRIES,
        pool=pool,
    )
    def compare(
        context: dg.AssetCheckExecutionContext,
        unify_account: UnifyAccount,
        unify_dataset: UnifyDataset,
    ) -> Iterator[dg.AssetCheckResult]:
        tables: dict[str, Counter[str]] = {name: Counter() for name in BY_NAME}
        for each in ranges(context.op_execution_context, partitions):
            with failing_as_dagster_does():
                verified = verify(
                    unify_dataset.pipeline(each.account),
                    each.start,
                    each.end,
                    # The account changes on, and its next run loads that.
                    as_loaded=True,
                    lock_timeout=unify_dataset.lock_timeout,
                    **unify_account.arguments(each.account),
                )
            # The sentences name rows by their ids, which Dagster's counts do not.
            for line in verified.as_lines():
                context.log.info(line)
            for name, kinds in verified.tables.items():
                tables[name].update(kinds)
            tables[QUARANTINE.name].update(quarantined=verified.quarantined)
        for key in context.selected_asset_check_keys:
            yield _result(key, tables[key.asset_key.path[-1]])

    return compare


def _specs() -> Iterator[dg.AssetCheckSpec]:
    for table in BY_NAME.values():
        if table is QUARANTINE:
            what, name = "Every row could be read as the API documents it.", IS_EMPTY
        else:
            what, name = "The table holds what the API shows, row by row.", EQUALS_API
        yield dg.AssetCheckSpec(name, asset=table_key(table.name), description=what)


def _result(key: dg.AssetCheckKey, counts: Counter[str]) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = dict(counts)
    # What is in quarantine is kept whole, and no row differs for it.
    is_warning = key.name == IS_EMPTY
    return dg.AssetCheckResult(
        passed=not any(counts.values()),
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )
