"""`verify`: compares every table with the API, row by row, and repairs what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime

import dlt
from typing_extensions import Unpack

from unify_source.common.settings import LOCK_TIMEOUT, RangeArguments, Settings
from unify_source.common.times import EPOCH, parse_range
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import run_settings
from unify_source.load.ledger.entry import REPAIR, VERIFY, Entry
from unify_source.load.ledger.ledger import Ledger
from unify_source.runs.verification.comparison import Comparison
from unify_source.runs.verification.record import record
from unify_source.runs.verification.repair import brakes, plan_removal
from unify_source.runs.verification.repair import repair as run_repair
from unify_source.runs.verification.result import Verified
from unify_source.runs.verification.sides.buckets import digests_for
from unify_source.runs.verification.sides.scratch import Scratch, scratch

# The second asks by id for rows that the first missed, such as those that a page skipped.
_MOST_REPAIRS = 2


def verify(
    pipeline: dlt.Pipeline,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    *,
    repair: bool = False,
    yes: bool = False,
    as_loaded: bool = False,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
    **settings: Unpack[RangeArguments],
) -> Verified:
    """Compare every table with the API, for rows updated from `start` to `end`, or for all rows.

    The range means what it means to `backfill`. Rows that change while it runs do not count. The
    differences are written to the table `unify_verify_differences`, the verdict to
    `unify_sync_runs`. With `repair` rows are reloaded or deleted, and everything is compared again;
    more than a twentieth of a table is deleted only with `yes`. With `as_loaded`, rows that changed
    since the last load do not count either. Raises a UnifyError.
    """
    since, until = parse_range(EPOCH if start is None else start, end)
    with explained(pipeline):
        given = run_settings(pipeline, **settings)
        comparison = Comparison(
            pipeline,
            given,
            None if start is None else since,
            until,
            lock_timeout,
            as_loaded=as_loaded,
        )
        entry = Entry(REPAIR if repair else VERIFY, pipeline.pipeline_name, given)
        entry.asks_with(comparison.client)
        ledger = Ledger(pipeline, given.table_format, entry)
        run = _Run(pipeline, given, lock_timeout, comparison, entry, ledger)
        with ledger.open(lock_timeout):
            return run.verified(_MOST_REPAIRS if repair else 0, yes=yes)


@dataclass(frozen=True)
class _Run:
    """One run: its comparison, and where its result is recorded."""

    pipeline: dlt.Pipeline
    settings: Settings
    lock_timeout: float | str
    comparison: Comparison
    entry: Entry
    ledger: Ledger

    def verified(self, repairs: int, *, yes: bool) -> Verified:
        """Compare, and repair the differences in at most so many rounds."""
        before: Verified | None = None
        for repairs_left in reversed(range(repairs + 1)):
            with scratch(digests_for(self.pipeline)) as sides:
                outcome = self._compared(sides)
                if before:
                    outcome = outcome.after_repair_of(before)
                if not (outcome.differences and repairs_left):
                    return outcome
                plan_removal(sides)
                if not yes and (stopped := brakes(sides)):
                    return replace(outcome, notes=(*outcome.notes, *stopped))
                run_repair(self.pipeline, self.settings, self.lock_timeout, sides, self.entry)
            before = outcome
        return outcome

    def _compared(self, sides: Scratch) -> Verified:
        outcome = self.comparison.run(sides)
        self.entry.compare(self.comparison.window, outcome.verdict, outcome.differences)
        if self.comparison.is_loaded:
            self.ledger.begin(is_held=False)
            how = (self.pipeline, self.settings, self.lock_timeout)
            record(*how, self.comparison, sides, self.entry.id)
        return outcome
