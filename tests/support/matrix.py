"""Writes how each fault ended, in each place and on each destination, into a page.

Given with `--matrix FILE`: the table between its markers is replaced.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from faults import FAULTS, PLACES

CELL = "fault, place, destination, outcome"
LOST = "LOST"


class Matrix:
    """Keeps the outcome of every fault, and writes the table."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._outcomes: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one outcome."""
        for name, value in report.user_properties:
            if name == CELL and report.when == "call":
                fault, place, destination, outcome = str(value).split("|")
                ended = outcome if report.passed else LOST
                self._outcomes[fault, place].setdefault(ended, []).append(destination)

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        lines = [f"| fault | {' | '.join(PLACES)} |", "|---" * (len(PLACES) + 1) + "|"]
        for fault in FAULTS:
            cells = [_cell(self._outcomes[fault, place]) for place in PLACES]
            lines.append(f"| {fault} | {' | '.join(cells)} |")
        page = self._page.read_text()
        marked = r"(<!-- faults -->\n).*?(<!-- end of faults -->)"
        table = "\n".join(lines)
        self._page.write_text(re.sub(marked, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL))


def _cell(outcomes: dict[str, list[str]]) -> str:
    """Return the one outcome, or each with the destinations that it was seen on."""
    if len(outcomes) == 1:
        return next(iter(outcomes))
    return "; ".join(f"{ended} ({', '.join(names)})" for ended, names in outcomes.items())
