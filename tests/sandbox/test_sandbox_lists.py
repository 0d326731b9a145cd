"""The local API lists what a request asks for, in any order and page by page."""

from collections.abc import Iterator
from datetime import timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest
from asking import START, Row, account, ask, instant, listed, pages

from unify_source.sandbox import Account, Clock, Sandbox


@pytest.fixture(scope="module")
def still() -> Iterator[Sandbox]:
    with Sandbox(account(3000, one_instant=250)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("order", ["updated", "updated_desc", "created", "id"])
def test_pages_in_any_order_show_every_row_once_when_nothing_changes(order: str) -> None:
    field, is_down = {"id": ("id", False), "created": ("created_at", False)}.get(
        order, ("updated_at", order == "updated_desc")
    )
    with Sandbox(account(one_instant=230), order=order) as sandbox:
        rows = listed(sandbox, limit=7)
        assert sorted(row["id"] for row in rows) == sorted(sandbox.account.ids())
        values = [row["id"] if field == "id" else instant(row[field]) for row in rows]
        assert values == sorted(values, reverse=is_down)


@pytest.mark.parametrize("order", ["updated", "created"])
def test_both_bounds_are_inclusive_and_compared_as_instants(order: str) -> None:
    with Sandbox(account(), order=order) as sandbox:
        times = sorted(instant(row["updated_at"]) for row in sandbox.account.rows())
        low, high = times[200], times[700]
        elsewhere = timezone(timedelta(hours=-7))
        rows_listed = listed(
            sandbox,
            updated_after=low.astimezone(elsewhere).isoformat(),
            updated_before=high.isoformat(),
        )
        assert len(rows_listed) == sum(low <= at <= high for at in times)
        just_after = high.isoformat(timespec="microseconds")[:26] + "0001Z"
        assert len(listed(sandbox, updated_after=just_after)) == sum(at > high for at in times)


def test_each_filter_keeps_exactly_what_it_names(still: Sandbox) -> None:
    rows = still.account.rows()
    for part in ("sequence", "person", "mailbox", "enrolled_by_play"):
        wanted = next(row[part]["id"] for row in rows if row[part])
        rows_listed = listed(still, **{f"{part}_id": wanted.upper()})
        assert rows_listed == [row for row in rows if row[part] and row[part]["id"] == wanted]
    either = listed(still, status=["DRAFT", "FINISHED"])
    assert either == [row for row in rows if row["status"] != "IN_PROGRESS"]


def test_without_a_limit_a_page_holds_50(still: Sandbox) -> None:
    assert len(ask(still).json()["enrollments"]) == 50


def test_a_cursor_is_of_use_to_its_own_query_alone(still: Sandbox) -> None:
    cursor = ask(still, limit=10).json()["next_cursor"]
    assert ask(still, limit=10, cursor=cursor).status_code == 200
    for other in ({"limit": 11}, {"limit": 10, "status": "DRAFT"}):
        assert ask(still, cursor=cursor, **other).status_code == 400
    for garbage in ("", "x", cursor[:-2], "é", cursor + "="):
        problem = {"code": "invalid_cursor", "path": ["cursor"]}
        assert ask(still, limit=10, cursor=garbage).json()["errors"] == [problem]


def test_the_date_is_that_of_the_servers_clock_in_whole_seconds() -> None:
    clock = Clock(START, tick=timedelta(milliseconds=600))
    with Sandbox(Account(10, clock=clock)) as sandbox:
        dates = [parsedate_to_datetime(ask(sandbox).headers["date"]) for _ in range(3)]
    assert dates == [START, START + timedelta(seconds=1), START + timedelta(seconds=1)]


def test_a_row_is_kept_as_it_is_whatever_it_is() -> None:
    data = account(3)
    odd: list[Row] = [
        {"id": None, "x": 1},
        {"id": "7"},
        {"updated_at": "?", "id": "8", "person": "Ann"},
    ]
    data.put_many(odd)
    with Sandbox(data) as sandbox:
        rows = listed(sandbox)
        assert len(rows) == 6
        assert all(row in rows for row in odd)


def test_a_row_that_changes_while_pages_are_read_moves_to_its_new_place() -> None:
    with Sandbox(account(300)) as sandbox:
        reading = pages(sandbox, limit=100)
        first = next(reading)
        moved = first[0] | {"updated_at": "2026-08-01T12:00:00.5Z"}
        sandbox.account.put(moved)
        rest = [row for page in reading for row in page]
        assert rest[-1] == moved
        assert len(first) + len(rest) == 301
