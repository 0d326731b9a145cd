"""Measures the cost of losing no row while rows change, and what is lost without the checks.

    python benchmarks/offsets.py [--rows 20000] [--orders updated id] [--rates 0] [--before 1000]

Reads a sandbox account that answers 100 requests a second in simulated time, and again once the
changes have stopped; `before` is how many rows changed shortly before. Prints a Markdown table: for
each kind of cursor, order of the list, share of late changes and changes a second, it has the
requests of the first reading as a multiple of rows / page size, and the rows that both readings
have missed; with the checks of `unify_source/extract/portion.py`, and without.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from moving import TICK, loaded

from unify_source.sandbox import Account, Clock
from unify_source.sandbox.account.query import CURSORS, ORDERS

RATES = (0, 50, 500)
LATE = (0.0, 0.4)
PAGE = 100
START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def main() -> None:
    """Print the table, each line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--orders", nargs="*", choices=ORDERS, default=ORDERS)
    parser.add_argument("--rates", nargs="*", type=int, default=RATES)
    parser.add_argument("--before", type=int, default=0)
    options = parser.parse_args()
    print("| cursor | order | late | changes/s | requests | unchecked | lost | lost unchecked |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for cursor, order, late, rate in product(CURSORS, options.orders, LATE, options.rates):
        if rate or not late:
            print(line(options, cursor, order, late, rate), flush=True)


def line(options: argparse.Namespace, cursor: str, order: str, late: float, rate: int) -> str:
    """Measure one combination, and return its row of the table."""
    requests, lost = [], []
    for checks in (True, False):
        account = Account(options.rows, clock=Clock(START, TICK))
        account.change(options.before, seed=1)
        account.clock.advance(timedelta(seconds=2))
        how = {"order": order, "cursor": cursor, "page_size": PAGE}
        copy = loaded(account, rate, late, Random(1), checks=checks, **how)
        requests.append(f"{len(copy.requests) * PAGE / options.rows:.2f}")
        lost.append(str(copy.lost))
    return "| " + " | ".join([cursor, order, f"{late:.0%}", str(rate), *requests, *lost]) + " |"


if __name__ == "__main__":
    main()
