"""A cursor of the local API hides a row's key or an offset, which rows that move make wrong."""

from collections import Counter
from datetime import timedelta

import pytest
from asking import SEQUENCES, START, Row, account, ask, listed, pages

from unify_source.sandbox import Account, Request, Sandbox
from unify_source.sandbox.account.query import ORDERS

NOW = START.isoformat()
# No row of the account is as new, so that a row which is changed leaves the window.
CLOSED = {"updated_before": (START - timedelta(seconds=1)).isoformat()}


def move(data: Account, row: Row) -> None:
    data.put(row | {"updated_at": NOW})


@pytest.mark.parametrize("order", ORDERS)
def test_an_offset_skips_a_row_when_one_before_it_leaves_the_window(order: str) -> None:
    for cursor, lost in (("offset", 1), ("keyset", 0)):
        with Sandbox(account(500), order=order, cursor=cursor) as sandbox:
            inside = {row["id"] for row in listed(sandbox, **CLOSED)}
            reading = pages(sandbox, limit=100, **CLOSED)
            first = next(reading)
            move(sandbox.account, first[5])
            ids = [row["id"] for row in [*first, *(r for page in reading for r in page)]]
            assert len(inside - set(ids)) == lost
            assert len(ids) == len(set(ids))


def test_an_offset_repeats_a_row_when_another_moves_to_the_front() -> None:
    for cursor, twice in (("offset", 1), ("keyset", 0)):
        with Sandbox(account(500), order="updated_desc", cursor=cursor) as sandbox:
            reading = pages(sandbox, limit=100)
            first = next(reading)
            move(sandbox.account, sandbox.account.rows()[0])
            ids = Counter(row["id"] for row in [*first, *(r for page in reading for r in page)])
            assert sum(count == 2 for count in ids.values()) == twice


def test_an_offset_over_live_changes_skips_rows_that_a_keyset_finds() -> None:
    skipped = {}
    for cursor in ("offset", "keyset"):
        data = account(3000)

        def live(_request: Request, data: Account = data) -> None:
            data.change(20, seed=1)

        with Sandbox(data, cursor=cursor, on_request=live) as api:
            before = {row["id"]: row["updated_at"] for row in data.rows()}
            read = {row["id"] for row in listed(api, **CLOSED)}
        unmoved = {row["id"] for row in data.rows() if before.get(row["id"]) == row["updated_at"]}
        skipped[cursor] = len(unmoved - read)
    assert skipped["keyset"] == 0
    assert skipped["offset"] > 10


def test_an_offset_skips_a_sequence_too() -> None:
    for cursor, lost in (("offset", 1), ("keyset", 0)):
        with Sandbox(account(10_000), cursor=cursor) as sandbox:
            reading = pages(sandbox, SEQUENCES, limit=5)
            first = next(reading)
            sandbox.account.rename_sequence(first[0]["id"], "Renamed")
            read = {row["id"] for row in [*first, *(r for page in reading for r in page)]}
            assert len({row["id"] for row in sandbox.account.sequences()} - read) == lost


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_offsets_show_every_row_once_when_nothing_changes(order: str, limit: int) -> None:
    with Sandbox(account(70, one_instant=30), order=order, cursor="offset") as sandbox:
        rows = listed(sandbox, limit=limit)
        with Sandbox(sandbox.account, order=order) as keyset:
            assert rows == listed(keyset, limit=limit)


def test_an_offset_beyond_the_end_is_an_empty_last_page() -> None:
    for order in ORDERS:
        with Sandbox(account(20), order=order, cursor="offset") as sandbox:
            cursor = ask(sandbox, limit=10).json()["next_cursor"]
            for name in sandbox.account.ids()[:15]:
                sandbox.account.remove(name)
            answer = ask(sandbox, limit=10, cursor=cursor)
            assert answer.json() == {"enrollments": [], "next_cursor": None}


def test_an_offset_is_opaque_and_of_use_to_its_own_query_alone() -> None:
    with Sandbox(account(50), cursor="offset") as sandbox:
        cursor = ask(sandbox, limit=10).json()["next_cursor"]
        assert not cursor.isdecimal()
        assert ask(sandbox, limit=11, cursor=cursor).status_code == 400
        assert ask(sandbox, limit=10, cursor=cursor[:-2]).status_code == 400
        with Sandbox(sandbox.account) as keyset:
            assert ask(keyset, limit=10, cursor=cursor).status_code == 400
    with pytest.raises(ValueError, match="no such cursor"):
        Sandbox(account(1), cursor="page")
