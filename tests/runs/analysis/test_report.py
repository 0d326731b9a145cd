"""The report shows what the models answer, and needs nothing but itself to be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import dlt
import psycopg2
import pytest
from commands import command, only_json
from conftest import KEY
from modeled import Database, role_of
from reported import (
    HOSTILE,
    MOST_BYTES,
    QUESTIONS,
    Page,
    assert_shown,
    assert_totals,
    troubled,
    written,
)

from unify_source import backfill, make_models, report, sync, unify_source, verify
from unify_source.common.errors import ConfigurationError
from unify_source.runs.analysis.report.answers import read
from unify_source.runs.analysis.report.page import rendered
from unify_source.runs.analysis.views import client_of
from unify_source.sandbox import DRIFTS, Account, Sandbox


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[tuple[Database, Database]]:
    with troubled(tmp_path_factory.mktemp("report"), postgres_server) as loaded:
        yield loaded


@pytest.mark.parametrize("number", [0, 1], ids=["duckdb", "postgres"])
def test_the_numbers_are_those_of_the_models(
    databases: tuple[Database, Database], number: int, home: Path
) -> None:
    database = databases[number]

    page = written(database.pipeline(home))

    assert_shown(page.tables, database)
    assert_totals(page.tiles, database)
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
        rates = [
            float(row[rate].strip("\N{GREATER-THAN OR EQUAL TO}\xa0 %"))
            for row in rows[: sum(enough)]
        ]
        assert rates == sorted(rates, reverse=is_falling)


def test_the_report_reads_the_models_and_nothing_else(
    databases: tuple[Database, Database], home: Path
) -> None:
    expected = written(databases[1].pipeline(home))
    role = f"reader_{uuid4().hex[:12]}"
    with role_of(databases[1], role) as reader:
        databases[1].ask(f"GRANT USAGE ON SCHEMA unify_models TO {role}")
        databases[1].ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA unify_models TO {role}")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.ask("SELECT * FROM unify.unify_sync_runs")

        page = written(reader.pipeline(home / "reader"), "reader.html")

        databases[1].ask(f"REVOKE SELECT ON unify_models.last_verify FROM {role}")
        with pytest.raises(ConfigurationError, match="does not see the dataset unify either"):
            report(reader.pipeline(home / "reader"))

    assert page.tables == expected.tables
    assert page.tiles == expected.tiles


def test_a_rate_with_replies_of_unknown_kind_is_marked_and_no_other_is(
    databases: tuple[Database, Database], home: Path
) -> None:
    page = written(databases[0].pipeline(home))

    for name, rates, unknown in (
        ("sequences", (6, 8), 9),
        ("lineages", (6,), 7),
        ("weeks", (5,), 6),
    ):
        for row in page.body(name):
            marks = ("\N{GREATER-THAN OR EQUAL TO}", "unknown")
            marked = {row[rate].startswith(marks) for rate in rates}
            assert marked == {row[unknown] != "0"}
    assert {row[6] == "0" for row in page.body("weeks")} == {True, False}


def test_people_are_counted_once_where_a_sequence_was_upgraded(
    databases: tuple[Database, Database], home: Path
) -> None:
    [[_, versions, enrollments, people, *_]] = written(databases[0].pipeline(home)).body("lineages")
    assert versions == "2"
    assert int(enrollments) > int(people)


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


def test_problems_come_first_on_the_page(databases: tuple[Database, Database], home: Path) -> None:
    text = written(databases[0].pipeline(home)).text

    first = text[text.index("What to look at first") : text.index("All sequences together")]
    order = [
        "1 row in quarantine.",
        "from the API.",
        "too many bounces",
        "unknown kind",
    ]
    assert [first.index(words) for words in order] == sorted(map(first.index, order))


@pytest.mark.long
def test_a_sync_that_fails_is_reported_though_backfills_succeed(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    of_api: dict[str, Any] = {"api_key": KEY, "base_url": serve(Account(20)).url}
    sync(pipeline, **of_api)
    assert "in the last day" not in written(pipeline).text
    with pipeline.sql_client() as client:
        client.execute_sql(
            "UPDATE unify_sync_runs SET window_to = window_to - INTERVAL '2 days',"
            " finished_at = finished_at - INTERVAL '2 days'"
        )
    assert "No run has succeeded in the last day." in written(pipeline).text

    backfill(pipeline, "2026-01-01", **of_api)

    assert "No sync has succeeded in the last day, although other" in written(pipeline).text


@pytest.mark.long
def test_bounces_are_reported_though_no_mailbox_has_enough_starts_for_a_verdict(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    rows = [
        {
            **row,
            "started_at": row["created_at"],
            "is_bounced": True,
            "reply_email_message": None,
            "mailbox": {**row["mailbox"], "id": str(UUID(int=number)), "is_unauthorized": False},
        }
        for number, row in enumerate(Account(20).rows())
    ]
    living = Account(0)
    living.put_many(rows)
    sync(pipeline, api_key=KEY, base_url=serve(living).url)

    text = written(pipeline).text

    assert "100.0 % of all enrollments that started bounced." in text
    assert "Nothing needs attention." not in text


def test_in_the_older_form_rates_are_unknown_and_never_0(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    account = Account(200)
    api = serve(account, reshape=DRIFTS["page-example"])
    sync(pipeline, api_key=KEY, base_url=api.url, pii="drop")

    # The report creates the models, which are missing.
    page = written(pipeline)

    assert {row[6] for row in page.body("sequences") if row[9] != "0"} == {"unknown"}
    assert "unknown" in {row[5] for row in page.body("weeks")}
    assert "of unknown kind" in page.text
    # Dropped data is nowhere on the page, which shows an id in its place.
    addresses = {row[who]["email"] for row in account.rows() for who in ("mailbox", "person")}
    assert not [address for address in addresses if address in page.text]
    mailboxes = {row["mailbox"]["id"] for row in account.rows()}
    assert {row[0] for row in page.body("mailboxes")} == mailboxes


@pytest.mark.long
def test_the_last_verify_shows_whether_anything_differs(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    of_api: dict[str, Any] = {"api_key": KEY, "base_url": serve(Account(20)).url}
    sync(pipeline, **of_api)
    assert "Compared with the APInever" in written(pipeline).text
    with pipeline.sql_client() as client:
        client.execute_sql("DELETE FROM people")
    verify(pipeline, **of_api)
    assert "differences" in written(pipeline).tables

    verify(pipeline, repair=True, yes=True, **of_api)

    page = written(pipeline)
    assert "differences" not in page.tables
    assert "lineages" not in page.tables
    assert re.search("Compared with the API on [0-9-]{10}equal", page.text)


def test_the_page_lists_at_most_as_many_rows_as_it_announces(
    databases: tuple[Database, Database], home: Path
) -> None:
    with client_of(databases[0].pipeline(home), 0) as client:
        answers = read(client)
    many = replace(
        answers,
        sequences=answers.sequences * 100,
        mailboxes=answers.mailboxes * 150,
        weeks=answers.weeks * 2,
    )

    html = rendered(many, "unify", datetime.now(timezone.utc))

    page = Page(html)
    counts = [len(page.body(name)) for name in ("sequences", "mailboxes", "weeks")]
    assert counts == [200, 200, 52]
    assert f"The first 200 of {len(many.sequences):,}." in page.text
    assert len(html.encode()) <= MOST_BYTES


@pytest.mark.long
def test_an_empty_dataset_has_a_report_that_says_so(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(0)).url)

    page = written(pipeline)

    assert "There are no enrollments yet." in page.text
    assert "0.0 %" not in page.text
    assert "None" not in page.text

    # As of a version that kept no ledger: the last load tells instead.
    with pipeline.sql_client() as client:
        client.execute_sql("DROP TABLE unify_sync_runs")
    assert "Compared with the APInever" in written(pipeline).text


def test_missing_tables_are_reported_and_nothing_is_written(
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


def test_the_command_prints_the_path_of_the_page_and_opens_it(
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
