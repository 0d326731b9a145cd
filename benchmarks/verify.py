"""Measures `verify` beside a bare download of the same rows, from a sandbox in another process.

    python benchmarks/verify.py [--rows 1000000] [--destination postgres] [--page FILE]

Prints a Markdown table: the download, the first load, and the comparison of the loaded rows. With
`--page`, the table replaces the one in that file.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from compare import OURS, Arena, server_of, table

NAMES = ("bare download", OURS, "unify-source verify")


def main() -> None:
    """Run the benchmark that the command line selects."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--destination", choices=["duckdb", "postgres"], default="duckdb")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with server_of(options.destination) as dsn, ExitStack() as stack:
        arena = Arena(options.rows, 0.0, dsn, stack)
        title = f"{options.rows:,} rows, compared with {options.destination}"
        table(title, arena, NAMES, options.rows, options.page, where=OURS)


if __name__ == "__main__":
    main()
