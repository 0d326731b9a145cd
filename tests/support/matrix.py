"""Writes how each fault ended, in each place and on each destination, into a page.

Given with `--matrix FILE`: each table between its markers of which a cell was tried is replaced.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults import FAULTS, PLACES
from outages import MOMENTS, OUTAGES, WHILE_READING

CELL = "fault, place, destination, outcome"
LOST = "LOST"


def note(node: pytest.Item, *cell: str, outcome: str = LOST) -> None:
    """Note how a fault, in a place and on a destination, ended; first, that it has not."""
    node.user_properties.append((CELL, "|".join((*cell, outcome))))


TABLES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "faults": ([*FAULTS], [*PLACES]),
    "outages": ([*OUTAGES], [*MOMENTS]),
    "outages while reading": ([*WHILE_READING], [*PLACES]),
}
"""The rows and the columns of each table, by its marker."""


class Matrix:
    """Keeps the outcome of every fault, and writes the tables."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._outcomes: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one outcome."""
        noted = [str(value) for name, value in report.user_properties if name == CELL]
        if noted and report.when == "call":
            fault, place, destination, ended = noted[-1].split("|")
            destination = destination.replace(", folder", "").replace(", ", " on ")
            self._outcomes[fault, place].setdefault(ended, []).append(destination)

    def pytest_sessionfinish(self) -> None:
        """Write the tables."""
        page = self._page.read_text()
        for marker, (rows, places) in TABLES.items():
            if not any(self._outcomes[row, place] for row in rows for place in places):
                continue
            lines = [f"| fault | {' | '.join(places)} |", "|---" * (len(places) + 1) + "|"]
            for row in rows:
                cells = [_cell(self._outcomes[row, place]) for place in places]
                lines.append(f"| {row} | {' | '.join(cells)} |")
            marked = rf"(<!-- {marker} -->\n).*?(<!-- end of {marker} -->)"
            table = "\n".join(lines)
            page = re.sub(marked, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
        self._page.write_text(page)


def _cell(outcomes: dict[str, list[str]]) -> str:
    """Return the one outcome, or each with the destinations that it was seen on."""
    if len(outcomes) == 1:
        return next(iter(outcomes))
    # Whichever process ended first.
    each = ((ended, sorted(names)) for ended, names in sorted(outcomes.items()))
    return "; ".join(f"{ended} ({', '.join(names)})" for ended, names in each)
