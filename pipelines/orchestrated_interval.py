"""Load one data interval, for an orchestrator that keeps track of the intervals itself.

    python orchestrated_interval.py 2026-01-31 2026-02-01

loads what was last updated from the first time on and before the second, and leaves the cursor of
`unify-source sync` alone. Intervals may be reloaded, in any order. With Airflow's templates the
arguments are {{ data_interval_start }} and {{ data_interval_end }}.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone

import dlt

from unify_source import unify_source

# Rows that became visible late belong to an interval already loaded: begin a little earlier.
LOOKBACK = timedelta(minutes=10)


def instant(text: str) -> datetime:
    """Read a date or a time; without an offset it is UTC."""
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def load_interval(start: datetime, end: datetime) -> str:
    """Load the interval and return dlt's summary of the load."""
    pipeline = dlt.pipeline("unify_intervals", destination="duckdb", dataset_name="unify")
    interval = dlt.sources.incremental[datetime](
        "updated_at", initial_value=start - LOOKBACK, end_value=end
    )
    return str(pipeline.run(unify_source(updated_at=interval)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Load one data interval.")
    parser.add_argument("start", type=instant, help="the first instant of it")
    parser.add_argument("end", type=instant, help="the first instant after it")
    arguments = parser.parse_args()
    print(load_interval(arguments.start, arguments.end))
