"""`backfill --plan`: estimates a backfill from sample pages, without loading anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from math import ceil
from typing import Any, NamedTuple

from typing_extensions import Unpack

from unify_source.api.budget import BUDGET_SECONDS
from unify_source.api.client import Client
from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import RangeArguments
from unify_source.common.times import parse_range
from unify_source.extract.samples.estimate import rows_over_time
from unify_source.extract.samples.probe import first_instant
from unify_source.extract.window import Window
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.lookup import configured

PARTS = 16
# Reading, splitting and loading into DuckDB on two cores; see the benchmarks.
LOADED_PER_SECOND = 25_000


class Part(NamedTuple):
    """A part of the range, and about how many rows it holds, perhaps as a lower bound."""

    since: datetime
    until: datetime
    rows: int
    is_lower_bound: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "rows": self.rows,
            "is_lower_bound": self.is_lower_bound,
        }

    def as_line(self) -> str:
        """Return it as a line of a table."""
        ends = f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"
        return f"  {ends}  {_about(self.is_lower_bound)} {self.rows:,} rows"


@dataclass(frozen=True)
class Plan:
    """An estimate of what a range holds and what it takes to load it."""

    parts: list[Part]
    page_size: int
    window_rows: int
    seconds: float
    is_in_future: bool = False

    @property
    def rows(self) -> int:
        """About how many enrollments the range holds."""
        return sum(part.rows for part in self.parts)

    @property
    def is_lower_bound(self) -> bool:
        """Whether there may be many more: rows that share one instant are not all counted."""
        return any(part.is_lower_bound for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "command": "backfill --plan",
            "from": self.parts[0].since.isoformat(),
            "to": self.parts[-1].until.isoformat(),
            "rows": self.rows,
            "is_lower_bound": self.is_lower_bound,
            "requests": ceil(self.rows / self.page_size),
            "windows": ceil(self.rows / self.window_rows) or 1,
            "seconds": round(self.seconds),
            "is_in_future": self.is_in_future,
            "parts": [part.as_json() for part in self.parts],
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        facts = self.as_json()
        if self.is_in_future:
            return [f"From {facts['from']}: that range lies in the future.", "Nothing was loaded."]
        size = f"{self.rows:,} enrollments, {facts['requests']:,} requests"
        about = _about(self.is_lower_bound)
        many = facts["windows"]
        windows = "1 window, which takes" if many == 1 else f"{many:,} windows, which take"
        burst = "'At least' marks parts where many rows share one instant: not all were counted."
        return [
            f"From {facts['from']} to {facts['to']}: {about} {size}.",
            f"In {windows} {about} {facts['seconds']:,} s.",
            *(part.as_line() for part in self.parts),
            *([burst] if self.is_lower_bound else []),
            "Nothing was loaded.",
        ]


def plan(
    start: str | date | datetime,
    end: str | date | datetime | None = None,
    **settings: Unpack[RangeArguments],
) -> Plan:
    """Estimate a backfill with 130 to 300 requests, `workers` at a time; loads nothing.

    `backfill` says what the range means. If large groups of rows share their instants, it takes up
    to a thousand requests; of a group of more than five pages only a part is counted, and the
    estimate is a lower bound. Raises a UnifyError.
    """
    since, until = parse_range(start, end)
    with explained():
        configuration = configured(**settings)
        client = Client(configuration, raise_if_signalled)
        now = client.server_time(ENROLLMENT_LIST)
        if since > now:
            future = [Part(since, until or since, 0, is_lower_bound=False)]
            return Plan(
                future, configuration.page_size, configuration.window_rows, 0.0, is_in_future=True
            )
        before = min(until or now, now)
        # A range that begins years before the first row would be cut into mostly empty parts.
        first = first_instant(partial(client.page, ENROLLMENT_LIST), before) or since
        window = Window(max(since, first), before)
        began, asked = time.monotonic(), client.requests
        estimates = rows_over_time(client, ENROLLMENT_LIST, configuration, window, PARTS)
        # The workers asked in parallel, so this is already the pace of a run with as many.
        latency = (time.monotonic() - began) / (client.requests - asked)
        a_request = max(latency, BUDGET_SECONDS / configuration.requests_per_5min)
        parts = [
            Part(part.window.after or since, part.window.before, part.rows, part.is_lower_bound)
            for part in estimates
        ]
        rows = sum(part.rows for part in parts)
        seconds = rows / configuration.page_size * a_request + rows / LOADED_PER_SECOND
        return Plan(parts, configuration.page_size, configuration.window_rows, seconds)


def _about(is_lower_bound: bool) -> str:  # noqa: FBT001 - a fact, not a switch
    return "at least about" if is_lower_bound else "about"
