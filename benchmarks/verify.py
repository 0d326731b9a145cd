"""Measures `verify` beside a bare download of the same rows, from one sandbox in another process.

    python benchmarks/verify.py [--rows 1000000] [--destination postgres] [--page FILE]

Prints a Markdown table: the download, the first load, and the comparison of what was loaded. With
`--page` the table takes the place of the one in that file.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from compare import OURS, Arena, server_of, table

NAMES = ("bare download", OURS, "unify-source verify")


def main() -> None:
    """Run what the command line asks for."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--destination", choices=["duckdb", "postgres"], default="duckdb")
    words.add_argument("--page", type=Path)
    asked = words.parse_args()
    with server_of(asked.destination) as dsn, ExitStack() as stack:
        arena = Arena(asked.rows, 0.0, dsn, stack)
        title = f"{asked.rows:,} rows, compared with {asked.destination}"
        table(title, arena, NAMES, asked.rows, asked.page, where=OURS)


if __name__ == "__main__":
    main()
