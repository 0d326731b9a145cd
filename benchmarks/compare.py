"""Measures the contenders side by side, in one run, against one sandbox in another process.

    python benchmarks/compare.py [--rows N ...] [--destination postgres] [--only NAME ...]
                                 [--page docs/benchmarks.md]

Prints a Markdown table for each scenario: a first load of so many rows, then the same again without
changes, and after 1,000 changes; 20,000 rows at 50 ms latency; and a chart of 10,000 to a million
rows. Tables that the page already has, by title, are replaced there one by one, as soon as they are
measured. Postgres is a server that the benchmark starts, or the one that UNIFY_TEST_POSTGRES names;
each contender gets its own database. The machine is shared with the sandbox and the server, so
compare rows of one run, not single figures.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from contenders import CONTENDERS

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "support"))
import postgres  # noqa: E402 - the server that the tests start

COLUMNS = "rows/s | requests | seconds | CPU seconds | peak memory"
OURS = "unify-source sync"
# With dlt's defaults, a million rows would take more memory than most machines have.
MOST_ROWS = {"rest_api": 100_000, "requests script": 100_000}
LOADERS = [name for name in CONTENDERS if name != "unify-source verify"]
LOADED_AGAIN = (OURS, "rest_api", "rest_api, parquet")
CHARTED = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Result:
    """The resources that one contender's process used, from start to end."""

    seconds: float
    cpu: float
    megabytes: float
    requests: int

    def line(self, name: str, rows: int | None) -> str:
        """Return it as a row of the table; `rows` is None if there were hardly any to load."""
        speed = f"{rows / self.seconds:,.0f}" if rows else ""
        took = f"{self.requests:,} | {self.seconds:.2f} | {self.cpu:.1f}"
        return f"| {name} | {speed} | {took} | {self.megabytes:,.0f} MB |"


class Arena:
    """One sandbox, and for each contender a folder and a destination that are kept between runs."""

    def __init__(self, rows: int, latency: float, postgres_dsn: str, stack: ExitStack) -> None:
        self._stack = stack
        self._dsn = postgres_dsn
        self._homes: dict[str, dict[str, str]] = {}
        self._server = stack.enter_context(_server(rows, latency))
        self._url = self._line()

    def change(self, rows: int) -> None:
        """Change enrollments, and wait until the changes are visible."""
        self._ask(f"{rows}\n")
        # The connector's window ends with the server's last whole second.
        time.sleep(1.1)

    def run(self, name: str, where: str = "") -> Result:
        """Run one contender on its own dataset, or on that of `where`."""
        home = self._homes.get(where or name) or self._home(where or name)
        self._ask("\n")
        words = [sys.executable, str(HERE / "contenders.py"), name, self._url]
        words.append("postgres" if self._dsn else "duckdb")
        started = time.monotonic()
        with subprocess.Popen(words, cwd=home["HOME"], env=home) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = status
        seconds = time.monotonic() - started
        assert not status, f"{name} failed"
        cpu, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        return Result(seconds, cpu, megabytes, int(self._ask("\n")))

    def _home(self, name: str) -> dict[str, str]:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        home = {
            **os.environ,
            "HOME": folder,
            "DLT_DATA_DIR": f"{folder}/dlt",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        if self._dsn:
            database = self._stack.enter_context(postgres.database(self._dsn))
            home["DESTINATION__POSTGRES__CREDENTIALS"] = database
        self._homes[name] = home
        return home

    def _ask(self, line: str) -> str:
        assert self._server.stdin
        self._server.stdin.write(line)
        self._server.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._server.stdout
        return self._server.stdout.readline().strip()


def main() -> None:
    """Run the benchmarks that the command line selects."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--only", nargs="*", choices=LOADERS, default=LOADERS)
    parser.add_argument("--destination", choices=["duckdb", "postgres"], default="duckdb")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with server_of(options.destination) as dsn:
        where = f"into {options.destination}"
        for rows in options.rows:
            first_load_and_later(rows, options.only, dsn, where, options.page)
        with ExitStack() as stack:
            arena = Arena(20_000, 0.05, dsn, stack)
            title = f"20,000 rows {where}, 50 ms latency"
            table(title, arena, options.only, 20_000, options.page)
        sizes = [rows for rows in CHARTED if rows <= max(options.rows, default=0)]
        if OURS in options.only and sizes and not dsn:
            chart(sizes, dsn, options.page)


def server_of(destination: str) -> AbstractContextManager[str]:
    """Yield the address of a server, or an empty one for a destination that needs none."""
    return postgres.running() if destination == "postgres" else nullcontext("")


def first_load_and_later(
    rows: int, names: list[str], dsn: str, where: str, page: Path | None
) -> None:
    """Measure a first load, then a run without changes, then one after 1,000 changes."""
    able = [name for name in names if rows <= MOST_ROWS.get(name, rows)]
    again = [name for name in able if name in LOADED_AGAIN]
    with ExitStack() as stack:
        arena = Arena(rows, 0.0, dsn, stack)
        table(f"{rows:,} rows {where}, first load", arena, able, rows, page)
        for changes in (0, 1_000):
            if changes:
                arena.change(changes)
            title = f"{rows:,} rows {where}, again after {changes:,} changes"
            table(title, arena, again, None, page)


def chart(sizes: list[int], dsn: str, page: Path | None) -> None:
    """Print charts of rows per second and memory over rows, for Mermaid."""
    results = []
    for rows in sizes:
        with ExitStack() as stack:
            results.append(Arena(rows, 0.0, dsn, stack).run(OURS))
    axis = ", ".join(f'"{rows:,}"' for rows in sizes)
    speeds = [round(rows / r.seconds) for rows, r in zip(sizes, results, strict=True)]
    for title, values in (
        ("rows per second", speeds),
        ("peak memory in MB", [round(r.megabytes) for r in results]),
    ):
        head = f'  title "{OURS}: {title}, by rows"\n'
        rest = f"  x-axis [{axis}]\n  y-axis 0 --> {max(values)}\n  bar {values}\n"
        print(f"\n```mermaid\nxychart-beta\n{head}{rest}```", flush=True)
        put(page, head, rest)


def table(
    title: str,
    arena: Arena,
    names: Sequence[str],
    rows: int | None,
    page: Path | None,
    where: str = "",
) -> None:
    """Run contenders, each on its own dataset or on that of `where`, and print a row for each."""
    head, rest = f"| {title} | {COLUMNS} |\n", "|---|---:|---:|---:|---:|---:|\n"
    print(f"\n{head}{rest}", end="", flush=True)
    for name in names:
        line = arena.run(name, where).line(name, rows) + "\n"
        print(line, end="", flush=True)
        rest += line
    put(page, head, rest)


def put(page: Path | None, head: str, rest: str) -> None:
    """Replace what follows this heading in a page, up to the end of the table or the chart."""
    if page:
        end = "(?:[|].*\n)+" if head.startswith("|") else "(?:  .*\n)+"
        text = page.read_text(encoding="utf-8")
        new = re.sub(
            f"^({re.escape(head)}){end}", lambda match: match[1] + rest, text, flags=re.MULTILINE
        )
        page.write_text(new, encoding="utf-8")


@contextmanager
def _server(rows: int, latency: float) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, str(HERE / "server.py"), str(rows), str(latency)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield server
        server.terminate()


if __name__ == "__main__":
    main()
