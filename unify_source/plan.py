"""What a backfill would take, estimated from a few pages, without loading anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any

from unify_source.client import Client
from unify_source.reader import first_instant, instants
from unify_source.settings import Settings, parse_time
from unify_source.source import configured
from unify_source.trouble import explained
from unify_source.window import Window, cut

PROBES = 16
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
    """Estimate a backfill from about three dozen requests. Raises a UnifyError."""
    since = parse_time("--from", start)
    until = parse_time("--to", end) if end else None
    with explained():
        said = configured(**settings)
        client = Client(said)
        before = until or client.server_time()
        first = first_instant(client, before)
        window = Window(max(since, first) if first and first < before else since, before)
        step = (before - since) if window.after is None else (before - window.after)
        began, asked = time.monotonic(), client.requests
        at = [before - step * i / PROBES for i in range(1, PROBES)]
        parts = [_measured(client, said, part) for part in cut(window, at)]
        latency = (time.monotonic() - began) / (client.requests - asked)
        rows = sum(rows for *_, rows in parts)
        reading = rows / said.page_size * latency / said.workers
        return Plan(parts, said.page_size, said.window_rows, reading + rows / LOADED_PER_SECOND)


def _measured(client: Client, said: Settings, part: Window) -> tuple[datetime, datetime, int]:
    """Count a part's rows, or guess them from ever smaller pieces of it, until one fits a page."""
    since = part.after or part.before
    length = part.before - since
    share = 1.0
    while True:
        piece = Window(since, since + length * share)
        limit = [("limit", str(said.page_size))]
        body, more = client.page([*said.filters, *limit, *piece.parameters()])
        rows = len(instants(body))
        if more is None or length * share < timedelta(seconds=1):
            return since, part.before, round(rows / share)
        share /= 4
