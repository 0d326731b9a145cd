"""What a backfill would take, estimated from a page here and there, without loading anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime
from math import ceil
from typing import Any

from dlt.common.runtime.signals import raise_if_signalled

from unify_source.budget import BUDGET_SECONDS
from unify_source.client import Client
from unify_source.estimate import rows_over_time
from unify_source.reader import first_instant
from unify_source.settings import parse_range
from unify_source.source import configured
from unify_source.trouble import explained
from unify_source.window import Window

PARTS = 16
# Read, split and load of DuckDB on two cores; see the benchmarks.
LOADED_PER_SECOND = 25_000


@dataclass(frozen=True)
class Plan:
    """What a range seems to hold and what it takes to load it; `parts` are (from, to, rows)."""

    parts: list[tuple[datetime, datetime, int]]
    page_size: int
    window_rows: int
    seconds: float

    @property
    def rows(self) -> int:
        """The enrollments in the range, about."""
        return sum(rows for *_, rows in self.parts)

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "command": "backfill --plan",
            "from": self.parts[0][0].isoformat(),
            "to": self.parts[-1][1].isoformat(),
            "rows": self.rows,
            "requests": ceil(self.rows / self.page_size),
            "windows": ceil(self.rows / self.window_rows) or 1,
            "seconds": round(self.seconds),
            "parts": [
                {"from": since.isoformat(), "to": until.isoformat(), "rows": rows}
                for since, until, rows in self.parts
            ],
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        said = self.as_json()
        size = f"{self.rows:,} enrollments, {said['requests']:,} requests"
        return [
            f"From {said['from']} to {said['to']}: about {size}.",
            f"In {said['windows']} windows, which take about {said['seconds']:,} s.",
            *(
                f"  {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}  about {rows:,} rows"
                for since, until, rows in self.parts
            ),
            "Nothing was loaded.",
        ]


def plan(start: str | date, end: str | date | None = None, **settings: Any) -> Plan:
    """Estimate a backfill from 130 to 300 requests, `workers` at a time; loads nothing.

    Where large groups of rows share their instants it takes up to a thousand requests; a burst of
    more than five pages is counted in part only. Raises a UnifyError.
    """
    since, until = parse_range(start, end)
    with explained():
        said = configured(**settings)
        client = Client(said, raise_if_signalled)
        now = client.server_time()
        before = max(since, min(until or now, now))
        first = first_instant(client, before) or since
        window = Window(max(since, first), before)
        began, asked = time.monotonic(), client.requests
        found = rows_over_time(client, said, window, PARTS)
        latency = (time.monotonic() - began) / (client.requests - asked)
        a_request = max(latency, BUDGET_SECONDS / said.requests_per_5min)
        parts = [(part.after or since, part.before, rows) for part, rows in found]
        rows = sum(rows for *_, rows in parts)
        seconds = rows / said.page_size * a_request + rows / LOADED_PER_SECOND
        return Plan(parts, said.page_size, said.window_rows, seconds)
