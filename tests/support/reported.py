"""The report as a parser reads it, what it has to show, and databases with something to show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dlt
from conftest import KEY
from modeled import Database, Rows, both

from unify_source import report, verify
from unify_source.sandbox import Account, Sandbox

HOSTILE = "<script>alert('a & \"b\"')</script>, whose name is too long for any phone"
MOST_BYTES = 2_000_000
NOTHING = "\N{EN DASH}"
TOTALS = (
    "enrolled, delivered, human_reply_percent, human_replies, positive_reply_percent,"
    " positive_replies, bounce_percent, bounced, opt_out_percent, opted_out"
)
QUESTIONS = {
    "sequences": "sequence_name || CASE WHEN is_paused THEN ' (paused)' ELSE '' END, enrolled,"
    " started, bounced, delivered, human_replies, human_reply_percent, positive_replies,"
    " positive_reply_percent, unclassified_replies, opted_out FROM unify_models.sequence_funnel",
    "lineages": "sequence_name, sequences, enrollments, enrolled, delivered, human_replies,"
    " human_reply_percent, unclassified_replies FROM unify_models.sequence_lineage"
    " WHERE sequences > 1",
    "weeks": "CAST(week AS TEXT), CASE WHEN is_young THEN 'unfinished' ELSE 'finished' END,"
    " started, delivered, human_replies, human_reply_percent, unclassified_replies"
    " FROM unify_models.cohort_weekly ORDER BY week DESC LIMIT 52",
    "waits": "sequence_name, timed_replies, median_days, p90_days FROM unify_models.time_to_reply",
    "mailboxes": "email, coalesce(concern, 'none'), started, bounced, bounce_percent, delivered,"
    " human_replies, human_reply_percent, opted_out,"
    f" coalesce(CAST(CAST(last_started_at AT TIME ZONE 'UTC' AS DATE) AS TEXT), '{NOTHING}')"
    " FROM unify_models.mailbox_health",
    "tables": "table_name, row_count, coalesce(substr(CAST(newest_at AT TIME ZONE 'UTC' AS TEXT),"
    f" 1, 16), '{NOTHING}') FROM unify_models.freshness",
    "quarantine": "reason, count(*) FROM unify.enrollments_quarantine GROUP BY reason",
    "differences": "table_name, kind, count(*) FROM unify.unify_verify_differences"
    " GROUP BY table_name, kind",
}


class Page(HTMLParser):
    """A page as read by a parser: its tables by name, and every element with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self.text = ""
        self.tiles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, a row or a cell."""
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "table":
            self._rows = self.tables[str(given["id"]).removeprefix("table-")] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td", "dd"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in ("th", "td", "dd") and self._cell is not None:
            row = self.tiles if tag == "dd" else self._rows[-1]
            row.append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        """Take text."""
        self.text += data
        if self._cell is not None:
            self._cell.append(data)

    def body(self, name: str) -> list[list[str]]:
        """Return the rows of a table without its heading."""
        return self.tables[name][1:]

    def count(self, tag: str, style: str, of: str) -> int:
        """Count the elements of a style within a picture."""
        inside, matching = False, 0
        for name, given in self.elements:
            # Labels are pictures within the picture.
            if name == "svg" and "role" in given:
                inside = str(given["aria-labelledby"]).startswith(f"picture-{of}-")
            matching += inside and name == tag and given.get("class") == style
        return matching


def _as_shown(value: Any) -> set[str]:
    """Return the forms in which the page may show a value."""
    if value is None:
        return {"unknown", NOTHING}
    if isinstance(value, float):
        return {f"{value:.1f} %", f"\N{GREATER-THAN OR EQUAL TO}\xa0{value:.1f} %", f"{value:.1f}"}
    return {f"{value:,}" if isinstance(value, int) else str(value)}


def _shows(cells: list[str], row: tuple[Any, ...]) -> bool:
    return all(cell in _as_shown(value) for cell, value in zip(cells, row, strict=True))


def assert_shown(tables: dict[str, list[list[str]]], database: Database) -> None:
    """Assert that each table holds what the database answers, and nothing else, in any order."""
    assert set(tables) == set(QUESTIONS)
    for name, question in QUESTIONS.items():
        _assert_rows(name, tables[name][1:], database.ask(f"SELECT {question}"))


def assert_totals(tiles: list[str], database: Database) -> None:
    """Assert that the numbers at the top are the funnel of all enrollments."""
    [totals] = database.ask(f"SELECT {TOTALS} FROM unify_models.funnel_totals")
    # A rate and the count that it comes from share a tile.
    shown = [word for tile in tiles[-6:] for word in tile.replace(" %", "_%").split(" ")]
    assert _shows([word.replace("_", " ") for word in shown], totals)


def _assert_rows(name: str, shown: list[list[str]], rows: Rows) -> None:
    assert rows, name
    left = list(rows)
    for cells in shown:
        matches = [row for row in left if _shows(cells, row)]
        assert matches, f"{name}: no row is {cells}"
        left.remove(matches[0])
    assert left == []


def written(pipeline: dlt.Pipeline, name: str = "page.html") -> Page:
    """Write the report and read it."""
    shown_report = report(pipeline, name)
    html = shown_report.file.read_text(encoding="utf-8")
    assert shown_report.size == len(html.encode()) <= MOST_BYTES
    return Page(html)


@contextmanager
def troubled(folder: Path, server: str) -> Iterator[tuple[Database, Database]]:
    """Load 300 enrollments, one unreadable; a verify found what was taken away behind its back."""
    account = Account(300)
    account.rename_sequence(account.sequences()[0]["id"], HOSTILE)
    account.upgrade_sequence(account.sequences()[1]["id"])
    account.clock.advance(timedelta(seconds=1))
    broken = account.ids()[-1]
    with (
        Sandbox(account, key=KEY, reshape=lambda row: _reshaped(row, broken)) as api,
        both(folder, server, api) as loaded,
    ):
        for database in loaded:
            database.ask("DELETE FROM unify.people WHERE email < 'c' RETURNING id")
            verify(database.pipeline(folder), api_key=KEY, base_url=api.url)
        yield loaded


def _reshaped(row: dict[str, Any], broken: str) -> dict[str, Any]:
    """Return a row that cannot be read if it is the broken one."""
    return {**row, "is_paused": "perhaps"} if row["id"] == broken else row
