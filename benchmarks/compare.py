"""Measures the contenders side by side, in one run, against one sandbox in another process.

    python benchmarks/compare.py [--rows 100000] [--latency 0] [--only NAME ...]
        [--destination postgres]

Postgres is a server that it starts itself, or the one that UNIFY_TEST_POSTGRES names; each
contender gets a database of its own. Prints a Markdown table: rows per second, requests, processor
seconds and peak memory of each contender's process. The machine is shared with the sandbox and the
server, so compare rows, not single figures.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from contenders import CONTENDERS

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import postgres

HEADER = "| {} | rows/s | seconds | CPU seconds | peak memory |\n|---|---:|---:|---:|---:|"


def main() -> None:
    """Run what the command line asks for."""
    said = argparse.ArgumentParser()
    said.add_argument("--rows", type=int, default=100_000)
    said.add_argument("--latency", type=float, default=0.0)
    said.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    said.add_argument("--destination", choices=["duckdb", "postgres"], default="duckdb")
    asked = said.parse_args()
    words = ["--enrollments", str(asked.rows), "--latency", str(asked.latency), "--port", "0"]
    server = postgres.running() if asked.destination == "postgres" else nullcontext("")
    with (
        server as dsn,
        subprocess.Popen(
            [sys.executable, "-m", "unify_source", "sandbox", *words],
            stdout=subprocess.PIPE,
            text=True,
        ) as sandbox,
    ):
        assert sandbox.stdout
        listening = re.search(r"http://\S+\d", sandbox.stdout.readline())
        assert listening, "the sandbox did not start"
        head = f"{asked.rows:,} enrollments into {asked.destination}"
        print(HEADER.format(f"{head}, {asked.latency * 1000:g} ms latency"))
        for name in asked.only:
            with empty(dsn) as environment:
                print(measured(name, listening[0], asked.rows, environment), flush=True)
        sandbox.terminate()


@contextmanager
def empty(server: str) -> Iterator[dict[str, str]]:
    """Give what a contender needs in its environment to load into an empty destination."""
    if not server:
        yield {}
        return
    with postgres.database(server) as dsn:
        yield {"DESTINATION__POSTGRES__CREDENTIALS": dsn}


def measured(name: str, url: str, rows: int, reached: dict[str, str]) -> str:
    """Run one contender in an empty folder and return its row of the table."""
    script = Path(__file__).with_name("contenders.py")
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "DLT_DATA_DIR": f"{folder}/dlt",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            **reached,
        }
        destination = "postgres" if reached else "duckdb"
        with subprocess.Popen(
            [sys.executable, str(script), name, url, destination],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            said = process.stdout.read().split()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = status
    if status:
        return f"| {name} | failed | | | |"
    seconds = float(said[-1])
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    return f"| {name} | {rows / seconds:,.0f} | {seconds:.1f} | {cpu:.1f} | {memory:,.0f} MB |"


if __name__ == "__main__":
    main()
