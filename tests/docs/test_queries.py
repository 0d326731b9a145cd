"""The queries on the page answer as a count in Python does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

import duckdb
import pytest
from conftest import KEY
from pages import blocks, page

from unify_source import sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.sandbox import Account, Sandbox
from unify_source.times import parse_instant

Row = dict[str, Any]
Answer = list[tuple[Any, ...]]

QUERIES = blocks("sql", page("queries"))
# Half of the last digit that is shown.
ROUNDED = 0.05 + 1e-4


@pytest.fixture(scope="module")
def account() -> Account:
    made = Account(3_000)
    made.change(200, seed=7)
    # The server tells whole seconds, and a run reads up to the last full one.
    made.clock.advance(timedelta(seconds=1))
    return made


@pytest.fixture(scope="module")
def warehouse(
    account: Account, tmp_path_factory: pytest.TempPathFactory
) -> duckdb.DuckDBPyConnection:
    folder = tmp_path_factory.mktemp("queries")
    file = str(folder / "unify_gtm.duckdb")
    pipeline = open_pipeline(
        "unify_gtm", "duckdb", "unify", credentials=file, pipelines_dir=str(folder)
    )
    with Sandbox(account, key=KEY) as api:
        sync(pipeline, api_key=KEY, base_url=api.url)
    connection = duckdb.connect(file, read_only=True)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def asked(warehouse: duckdb.DuckDBPyConnection, beginning: str) -> Answer:
    """Return the answer to the query on the page that has this in it."""
    [query] = [query for query in QUERIES if beginning in query]
    return warehouse.execute(query).fetchall()


def by(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.values())


def agree(found: Answer, expected: Answer) -> bool:
    return len(found) == len(expected) and all(
        a == pytest.approx(b, abs=ROUNDED) if isinstance(b, float) else a == b
        for one, other in zip(sorted(found), sorted(expected), strict=True)
        for a, b in zip(one, other, strict=True)
    )


def reply(row: Row) -> Row:
    found: Row = row["reply_email_message"] or {}
    return found


def instant(text: str | None) -> datetime | None:
    return parse_instant(text) if text else None


def is_positive(row: Row) -> bool:
    return any(c["category"] == "POSITIVE" for c in reply(row).get("classifications", []))


def test_replies_per_sequence(account: Account, warehouse: duckdb.DuckDBPyConnection) -> None:
    found = asked(warehouse, "AS reply_rate")

    expected: Answer = []
    for rows in by(account.rows(), lambda row: row["sequence"]["id"]):
        replies = sum(bool(reply(row)) for row in rows)
        name = rows[0]["sequence"]["name"]
        expected.append((name, len(rows), replies, 100 * replies / len(rows)))
    assert agree(found, expected)
    assert [row[2] for row in found] == sorted((row[2] for row in found), reverse=True)
    assert all(0 < row[3] < 100 for row in found)


def test_bounce_rate_per_mailbox(account: Account, warehouse: duckdb.DuckDBPyConnection) -> None:
    found = asked(warehouse, "AS bounce_rate")

    started = [row for row in account.rows() if row["started_at"]]
    expected: Answer = []
    for rows in by(started, lambda row: row["mailbox"]["id"]):
        bounced = sum(row["is_bounced"] for row in rows)
        expected.append(
            (rows[0]["mailbox"]["email"], len(rows), bounced, 100 * bounced / len(rows))
        )
    assert agree(found, expected)
    assert all(0 < row[3] < 50 for row in found)


def test_days_until_the_reply_per_sequence(
    account: Account, warehouse: duckdb.DuckDBPyConnection
) -> None:
    found = asked(warehouse, "AS median_days")

    expected: Answer = []
    for rows in by(account.rows(), lambda row: row["sequence"]["id"]):
        waits = [
            (received - started).total_seconds() / timedelta(days=1).total_seconds()
            for row in rows
            if (received := instant(reply(row).get("received_at")))
            and (started := instant(row["started_at"]))
            and received >= started
        ]
        if waits:
            expected.append((rows[0]["sequence"]["name"], len(waits), median(waits)))
    assert agree(found, expected)
    assert all(row[2] > 0 for row in found)


def test_positive_replies_per_play(account: Account, warehouse: duckdb.DuckDBPyConnection) -> None:
    found = asked(warehouse, "AS positive_replies")

    expected: Answer = [
        (
            (rows[0]["enrolled_by_play"] or {"name": "(no play)"})["name"],
            len(rows),
            sum(map(is_positive, rows)),
        )
        for rows in by(account.rows(), lambda row: (row["enrolled_by_play"] or {}).get("id"))
    ]
    assert agree(found, expected)
    assert sum(row[1] for row in found) == len(account)
    assert found[0][2] > 0


def test_what_changed_today(account: Account, warehouse: duckdb.DuckDBPyConnection) -> None:
    found: Answer = []
    today: date | None = None
    while today is None or today != _today(warehouse):
        today = _today(warehouse)
        found = asked(warehouse, "AS changed")

    def is_of_today(text: str | None) -> bool:
        at = instant(text)
        return at is not None and at.date() >= today

    expected: Answer = [
        (
            rows[0]["sequence"]["name"],
            len(rows),
            sum(is_of_today(row["created_at"]) for row in rows),
            sum(is_of_today(row["ended_at"]) for row in rows),
            sum(is_of_today(reply(row).get("received_at")) for row in rows),
        )
        for rows in by(
            (row for row in account.rows() if is_of_today(row["updated_at"])),
            lambda row: row["sequence"]["id"],
        )
    ]
    assert agree(found, expected)
    assert sum(row[1] for row in found) > 0


def test_every_question_on_the_page_is_tried_here() -> None:
    assert len(QUERIES) == 5


def _today(warehouse: duckdb.DuckDBPyConnection) -> date:
    found: date = warehouse.execute("SELECT current_date").fetchall()[0][0]
    return found
