"""The interval that a user or an orchestrator asks for, and how many pages of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from typing import Any

import dlt
from dlt.extract import DltResource

from unify_source.common.dlt_seam import allows_external_schedulers
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import CURSOR
from unify_source.common.times import parse_time
from unify_source.extract.window import Interval

_LONGEST_SAMPLE = 1_000_000
START, END = "DLT_INTERVAL_START", "DLT_INTERVAL_END"


def asked_interval(updated_at: Any) -> Interval:
    """Return the range that a `dlt.sources.incremental` asks for, in dlt's own meaning.

    The range includes its `end_value` only with `range_end="closed"`. An orchestrator's interval
    counts if external schedulers are allowed. Raises ConfigurationError for options of an
    incremental that this source cannot honour.
    """
    allowed = allows_external_schedulers()
    if updated_at is None:
        return scheduled_interval() or Interval() if allowed else Interval()
    _refuse_odd(updated_at)
    if updated_at.allow_external_schedulers is not None:
        allowed = updated_at.allow_external_schedulers
    scheduled = scheduled_interval() if allowed else None
    if scheduled:
        return scheduled
    return Interval(
        _instant("initial_value", updated_at.initial_value),
        _instant("end_value", updated_at.end_value),
        closed=updated_at.range_end == "closed",
    )


def scheduled_interval() -> Interval | None:
    """Return the interval that an orchestrator names, in the environment or as a context."""
    interval = dlt.current.interval()
    if interval is None:
        return None
    start, end = interval
    return Interval(parse_time(START, start), parse_time(END, end))


def interval_in_environment() -> Interval | None:
    """Return the interval that the environment names. Raises ConfigurationError for half of one."""
    ends = {name: os.environ.get(name) for name in (START, END)}
    if not any(ends.values()):
        return None
    for name, value in ends.items():
        if not value:
            raise ConfigurationError(
                f"{name} is not set, but its counterpart is: an interval needs both.",
                f"Set {START} and {END}, or neither.",
            )
    return Interval(parse_time(START, str(ends[START])), parse_time(END, str(ends[END])))


def sample_pages(resources: Mapping[str, DltResource], page_size: int) -> int | None:
    """Return how many pages `add_limit` lets a run read, None where it sets no limit."""
    limits = [resource.limit for resource in resources.values() if resource.limit]
    if not limits:
        return None
    # dlt itself enforces a limit of time alone, by ending the reading.
    rows = [limit.limit(page_size) for limit in limits]
    return ceil(max(_LONGEST_SAMPLE if each is None else each for each in rows) / page_size)


def _refuse_odd(updated_at: Any) -> None:
    known = {
        "cursor_path": (None, CURSOR),
        "last_value_func": (max,),
        # "open" leaves out the cursor's own instant, some rows of which may still be unread.
        "range_start": ("closed",),
    }
    for name, allowed in known.items():
        value = getattr(updated_at, name)
        if value not in allowed:
            raise ConfigurationError(
                f"{name} of the incremental is {getattr(value, '__name__', value)!r}.",
                f"Leave it out: the cursor is {CURSOR}, and rows are read from its value on.",
            )


def _instant(name: str, value: Any) -> datetime | None:
    return None if value is None else parse_time(name, value)
