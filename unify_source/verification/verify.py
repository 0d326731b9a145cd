"""`verify`: compare every table with the API, id by id, and mend what differs."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import dlt
from typing_extensions import Unpack

from unify_source.configuration.dlt_errors import explained
from unify_source.configuration.environment import refuse_unsafe
from unify_source.configuration.lookup import configured
from unify_source.settings import LOCK_TIMEOUT, RangeArguments
from unify_source.times import EPOCH, parse_range
from unify_source.verification.comparison import Comparison
from unify_source.verification.record import record
from unify_source.verification.repair import brakes, mend, plan_removal
from unify_source.verification.result import Verified
from unify_source.verification.scratch import scratch

# What one repair leaves, such as rows that a cursor lost again, the next one asks for by their ids.
_MOST_REPAIRS = 2


def verify(
    pipeline: dlt.Pipeline,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    *,
    repair: bool = False,
    yes: bool = False,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
    **settings: Unpack[RangeArguments],
) -> Verified:
    """Compare every table with the API, for what was updated from `start` to `end`, or for all.

    The ends are read as `backfill` reads them. Rows that change while it runs are no difference.
    What differs is written to the table `unify_verify_differences`. With `repair` it is loaded
    again or taken away, and all is compared again; more than a twentieth of a table is taken away
    only with `yes`. Raises a UnifyError.
    """
    since, until = parse_range(EPOCH if start is None else start, end)
    with explained(pipeline):
        refuse_unsafe(pipeline)
        given = configured(**settings)
        comparison = Comparison(
            pipeline, given, None if start is None else since, until, lock_timeout
        )
        before: Verified | None = None
        for repairs_left in reversed(range(_MOST_REPAIRS + 1 if repair else 1)):
            with scratch() as sides:
                outcome = comparison.run(sides)
                if comparison.is_loaded:
                    record(pipeline, given.table_format, lock_timeout, comparison, sides)
                if before:
                    outcome = outcome.after_repair_of(before)
                if not (outcome.differences and repairs_left):
                    return outcome
                plan_removal(sides)
                if not yes and (stopped := brakes(sides)):
                    return replace(outcome, notes=(*outcome.notes, *stopped))
                mend(pipeline, given, lock_timeout, sides)
            before = outcome
        return outcome
