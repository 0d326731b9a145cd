"""Measures the report: how long it takes, and how large its file is.

    python benchmarks/report.py [--rows 20000] [--destination postgres]

Prints the time of the first report, which creates the models, and of the next, beside the limits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from compare import server_of

from unify_source import report, sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.sandbox import Account, Sandbox

MOST_SECONDS, MOST_BYTES = 3, 2_000_000
KEY = "a-key-of-the-sandbox"


def main() -> None:
    """Run the benchmark that the command line selects."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--destination", choices=["duckdb", "postgres"], default="duckdb")
    options = parser.parse_args()
    with server_of(options.destination) as dsn, tempfile.TemporaryDirectory() as folder:
        pipeline = open_pipeline(
            "unify_gtm",
            options.destination,
            "unify",
            credentials=dsn or str(Path(folder, "unify_gtm.duckdb")),
            pipelines_dir=folder,
        )
        with Sandbox(Account(options.rows), key=KEY) as api:
            sync(pipeline, api_key=KEY, base_url=api.url)
        limits = f"{options.rows:,} rows, at most {MOST_SECONDS} s and {MOST_BYTES:,} bytes"
        print(f"| {limits} | seconds | CPU seconds | bytes |\n| --- | --- | --- | --- |")
        for name in ("with the models", "again"):
            began, cpu = time.monotonic(), time.process_time()
            size = report(pipeline, Path(folder, "report.html")).size
            seconds, used = time.monotonic() - began, time.process_time() - cpu
            print(f"| {name} | {seconds:.2f} | {used:.2f} | {size:,} |")


if __name__ == "__main__":
    main()
