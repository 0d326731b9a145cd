"""The report shows what the models answer, and needs nothing but itself to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dlt
import pytest
from commands import command, only_json
from conftest import KEY
from modeled import Database, Rows, both

from unify_source import make_models, report, sync, unify_source, verify
from unify_source.errors import ConfigurationError
from unify_source.sandbox import DRIFTS, Account, Sandbox

HOSTILE = "<script>alert('a & \"b\"')</script>"
MOST_BYTES = 2_000_000
NOTHING = "\N{EN DASH}"
QUESTIONS = {
    "sequences": "sequence_name || CASE WHEN is_paused THEN ' (paused)' ELSE '' END, enrolled,"
    " started, bounced, delivered, human_replies, human_reply_percent, positive_replies,"
    " positive_reply_percent, unclassified_replies, opted_out FROM unify_models.sequence_funnel",
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
        elif tag in ("th", "td"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in ("th", "td") and self._cell is not None:
            self._rows[-1].append("".join(self._cell))
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
        inside, found = False, 0
        for name, given in self.elements:
            if name == "svg":
                inside = str(given["aria-labelledby"]).startswith(f"picture-{of}-")
            found += inside and name == tag and given.get("class") == style
        return found


def as_shown(value: Any) -> set[str]:
    """Return the forms in which the page may show a value."""
    if value is None:
        return {"unknown", NOTHING}
    if isinstance(value, float):
        return {f"{value:.1f} %", f"{value:.1f}"}
    return {f"{value:,}" if isinstance(value, int) else str(value)}


def shows(cells: list[str], row: tuple[Any, ...]) -> bool:
    return all(cell in as_shown(value) for cell, value in zip(cells, row, strict=True))


def assert_shown(page: Page, name: str, rows: Rows) -> None:
    """Assert that a table holds these rows and no others, in any order."""
    left = list(rows)
    for cells in page.body(name):
        matches = [row for row in left if shows(cells, row)]
        assert matches, f"{name}: no row is {cells}"
        left.remove(matches[0])
    assert left == []


def written(pipeline: dlt.Pipeline, name: str = "page.html") -> Page:
    made = report(pipeline, name)
    html = made.file.read_text(encoding="utf-8")
    assert made.size == len(html.encode()) <= MOST_BYTES
    return Page(html)


def reshaped(row: dict[str, Any], broken: str) -> dict[str, Any]:
    """Return a row that cannot be read if it is the broken one."""
    return {**row, "is_paused": "perhaps"} if row["id"] == broken else row


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[tuple[Database, Database]]:
    """Load 300 enrollments, one unreadable; a verify found what was taken away behind its back."""
    folder = tmp_path_factory.mktemp("report")
    account = Account(300)
    account.rename_sequence(account.sequences()[0]["id"], HOSTILE)
    broken = account.ids()[-1]
    with (
        Sandbox(account, key=KEY, reshape=lambda row: reshaped(row, broken)) as api,
        both(folder, postgres_server, api) as loaded,
    ):
        for database in loaded:
            database.ask("DELETE FROM unify.people WHERE email < 'c' RETURNING id")
            verify(database.pipeline(folder), api_key=KEY, base_url=api.url)
        yield loaded


@pytest.mark.parametrize("number", [0, 1], ids=["duckdb", "postgres"])
def test_the_numbers_are_those_of_the_models(
    databases: tuple[Database, Database], number: int, home: Path
) -> None:
    database = databases[number]

    page = written(database.pipeline(home))

    assert set(page.tables) == set(QUESTIONS)
    for name, question in QUESTIONS.items():
        rows = database.ask(f"SELECT {question}")
        assert rows, name
        assert_shown(page, name, rows)
    weeks = database.ask(f"SELECT {QUESTIONS['weeks']}")
    known = [state for _, state, *_, rate, _ in weeks if rate is not None]
    assert page.count("rect", "reply", "weeks") == known.count("finished") > 0
    assert page.count("rect", "young", "weeks") == known.count("unfinished") > 0


def test_both_databases_make_the_same_page(
    databases: tuple[Database, Database], home: Path
) -> None:
    on_duckdb, on_postgres = (written(database.pipeline(home)).tables for database in databases)

    # Each was loaded at its own time, and the quarantine says when.
    for tables in (on_duckdb, on_postgres):
        tables["tables"] = [row[:2] for row in tables["tables"]]
    assert on_duckdb == on_postgres


def test_a_table_is_sorted_by_what_its_question_asks(
    databases: tuple[Database, Database], home: Path
) -> None:
    page = written(databases[0].pipeline(home))

    concerns = [row[1] for row in page.body("mailboxes")]
    order = ["not authorized", "bounces", "paused", "none"]
    assert concerns == sorted(concerns, key=order.index)
    for name, count, rate, is_falling in (("sequences", 4, 6, True), ("waits", 1, 2, False)):
        rows = page.body(name)
        enough = [int(row[count].replace(",", "")) >= 20 for row in rows]
        assert enough == sorted(enough, reverse=True)
        rates = [float(row[rate].strip(" %")) for row in rows[: sum(enough)]]
        assert rates == sorted(rates, reverse=is_falling)


def test_the_page_needs_nothing_but_itself(
    databases: tuple[Database, Database], home: Path
) -> None:
    html = report(databases[0].pipeline(home)).file.read_text(encoding="utf-8")
    page = Page(html)

    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "img", "iframe"})
    ids = {given["id"] for _, given in page.elements if "id" in given}
    for _, given in page.elements:
        assert given.keys().isdisjoint({"src", "srcset", "action"})
        assert not [name for name in given if name.startswith("on")]
        assert given.get("href", "#fresh") in {f"#{name}" for name in ids}
        assert set(str(given.get("aria-labelledby", "fresh")).split()) <= ids


def test_names_from_the_api_are_shown_as_they_are_and_never_run(
    databases: tuple[Database, Database], home: Path
) -> None:
    page = written(databases[0].pipeline(home))

    assert HOSTILE in [row[0].removesuffix(" (paused)") for row in page.body("sequences")]
    assert "script" not in {tag for tag, _ in page.elements}


def test_what_is_wrong_comes_first(databases: tuple[Database, Database], home: Path) -> None:
    text = written(databases[0].pipeline(home)).text

    first = text[text.index("What to look at first") : text.index("All sequences together")]
    order = ["1 row in quarantine.", "differed from the API", "mailboxes: bounces", "unknown kind"]
    assert [first.index(words) for words in order] == sorted(map(first.index, order))


def test_in_the_older_form_rates_are_unknown_and_never_0(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    sync(
        pipeline,
        api_key=KEY,
        base_url=serve(Account(200), reshape=DRIFTS["page-example"]).url,
    )

    # Nobody made the models: the report does.
    page = written(pipeline)

    rates = {row[6] for row in page.body("sequences")} | {row[5] for row in page.body("weeks")}
    assert "unknown" in rates
    replies = {row[6] for row in page.body("sequences") if row[9] != "0"}
    assert replies == {"unknown"}
    assert "of unknown kind" in page.text


def test_an_empty_dataset_has_a_report_that_says_so(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(0)).url)

    page = written(pipeline)

    assert "There are no enrollments yet." in page.text
    assert "0.0 %" not in page.text
    assert "None" not in page.text


def test_where_tables_are_missing_it_says_so_and_writes_nothing(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox], home: Path
) -> None:
    api = serve(Account(20))
    pipeline.run(unify_source(api_key=KEY, base_url=api.url).with_resources("people"))

    with pytest.raises(ConfigurationError, match="lacks a table that the model"):
        report(pipeline)

    ran = command("report", "--dataset", "nothing")
    assert ran.returncode == 2
    assert "There is no dataset nothing in duckdb." in ran.stderr
    assert list(home.glob("*.html")) == []


def test_the_command_says_where_the_page_is_and_opens_it(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox], home: Path
) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(20)).url)
    make_models(pipeline)
    browser = home / "browser"
    browser.write_text('#!/bin/sh\necho "$1" >opened\n')
    browser.chmod(0o755)

    ran = command("report", "--json", "--open", "--output", "a page.html", BROWSER=f"{browser} %s")

    assert ran.returncode == 0, ran.stderr
    page = home / "a page.html"
    assert only_json(ran)["file"] == "a page.html"
    assert only_json(ran)["bytes"] == page.stat().st_size
    assert (home / "opened").read_text().strip() == page.as_uri()
    assert "The report is" in command("report").stdout
