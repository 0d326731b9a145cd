"""Rows change while a list is read: no row that stays is lost, whatever the cursor hides."""

from __future__ import annotations

import os
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from accounts import START
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import LOOKBACK, TICK, Copy, loaded, restless

from unify_source.common.times import EPOCH, parse_instant
from unify_source.extract.window import Window
from unify_source.sandbox import Account, Clock, Request

ORDERS = ["updated", "updated_desc", "created", "id"]
CURSORS = ["keyset", "offset"]
FIRST_BY = {
    "updated": "updated_at",
    "updated_desc": "updated_at",
    "created": "created_at",
    "id": "id",
}
ROUNDS = int(os.environ.get("UNIFY_TEST_ROUNDS", "3"))


def moving(size: int, seed: int, **shape: Any) -> Account:
    return Account(size, seed=seed, clock=Clock(START, TICK), days=30, **shape)


def change_before(account: Account, rows: int) -> None:
    """Change rows at one instant, shortly before the account is read."""
    recent = (account.clock.now() - LOOKBACK / 2).isoformat()
    account.put_many({**row, "updated_at": recent} for row in account.rows()[:rows])


@pytest.mark.rounds
@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=ROUNDS, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rate=st.sampled_from([0, 5, 50, 500]),
    late=st.sampled_from([0.0, 0.4, 1.0]),
    page_size=st.sampled_from([5, 10, 20]),
    workers=st.sampled_from([1, 3, 8]),
    one_instant=st.sampled_from([0, 0, 50]),
    before=st.sampled_from([0, 250]),
    enough=st.sampled_from([None, 100]),
)
def test_no_row_is_lost_whatever_the_cursor_hides(
    order: str,
    cursor: str,
    seed: int,
    rate: float,
    late: float,
    page_size: int,
    workers: int,
    one_instant: int,
    before: int,
    enough: int | None,
) -> None:
    account = moving(400, seed, one_instant=one_instant)
    change_before(account, before)
    how: dict[str, Any] = {
        "order": order,
        "cursor": cursor,
        "page_size": page_size,
        "workers": workers,
    }

    copy = loaded(account, rate, late, Random(seed), enough=enough, **how)

    assert copy.lost == 0


@pytest.mark.parametrize("order", ORDERS)
def test_without_the_checks_an_offset_loses_rows_so_the_simulation_can_fail(order: str) -> None:
    how: dict[str, Any] = {"order": order, "page_size": 10}

    losses = [
        loaded(moving(700, seed), 500, 0.0, Random(seed), checks=False, cursor="offset", **how).lost
        for seed in range(2)
    ]

    assert sum(losses) > 0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [20, 200, 3_000])
def test_an_account_at_rest_costs_one_request_more_or_a_twentieth(size: int, order: str) -> None:
    account = moving(size, 1)
    # More recent rows than a look shows on a page are no changes.
    change_before(account, size // 20)
    copy = loaded(account, 0, 0.0, Random(1), order=order, cursor="offset", page_size=10)

    # The first request of all asks for the server's time.
    looks = [each for each in copy.requests[1:] if "updated_before" not in dict(each.query)]
    assert copy.lost == 0
    assert len(looks) <= max(1, len(copy.requests) / 20)
    asked = [str(each.query) for each in copy.requests if "cursor" in dict(each.query)]
    again = len(asked) - len(set(asked))
    # How the threads take turns decides where the last slice ends: amid recent rows it is read
    # again.
    assert again <= len(copy.requests) / 20


@pytest.mark.parametrize("order", ORDERS)
def test_a_bulk_change_shortly_before_costs_at_most_a_quarter_more(order: str) -> None:
    requests = []
    for changed in (0, 700):
        account = moving(3_000, 1)
        change_before(account, changed)
        copy = Copy(account, {"order": order, "cursor": "offset", "page_size": 10})
        copy.read(None)
        assert copy.lost == 0
        requests.append(len(copy.requests))

    assert requests[1] <= 1.25 * requests[0]


def test_only_the_slices_that_a_row_has_left_are_read_again() -> None:
    account = moving(3_000, 1)
    oldest = account.rows()[0]
    how: dict[str, Any] = {"order": "updated", "cursor": "offset", "page_size": 10}
    pages = 0

    def change(_request: Request) -> None:
        nonlocal pages
        pages += 1
        if pages == 60:
            account.put({**oldest, "updated_at": account.clock.now().isoformat()})

    copy = Copy(account, how)
    copy.read(None, change)

    assert len(copy.requests) <= 1.4 * 3_000 / 10


@pytest.mark.parametrize("order", ORDERS)
def test_500_changes_a_second_cost_at_most_two_and_a_half_times_the_requests(order: str) -> None:
    how: dict[str, Any] = {"order": order, "cursor": "offset", "page_size": 50}

    checked = loaded(moving(5_000, 1), 500, 0.0, Random(1), **how)
    unchecked = loaded(moving(5_000, 1), 500, 0.0, Random(1), checks=False, **how)

    assert checked.lost == 0
    assert len(checked.requests) <= 2.5 * len(unchecked.requests)


@pytest.mark.parametrize("order", ORDERS)
def test_a_row_that_leaves_late_is_noticed_by_its_new_version(order: str) -> None:
    """The new version is older than the window's end: only its absence before shows it."""
    account = moving(300, 1)
    first = account.rows()[:20] if order == "updated" else account.rows()
    pages = 0

    def change(request: Request) -> None:
        nonlocal pages
        pages += "cursor" in dict(request.query)
        if pages == 3:
            stamp = (account.clock.now() - LOOKBACK / 2).isoformat()
            account.put_many({**row, "updated_at": stamp} for row in first[::2])

    copies = []
    unchecked: dict[str, Any] = {"again_from": EPOCH}
    for checks in ({}, unchecked):
        pages = 0
        account = moving(300, 1)
        copy = Copy(account, {"order": order, "cursor": "offset", "page_size": 10, "workers": 1})
        until = copy.read(None, change, **checks)
        account.clock.advance(timedelta(seconds=1))
        copy.read(until - LOOKBACK, **checks)
        copies.append(copy.lost)

    lost, lost_unchecked = copies
    assert lost == 0
    # Only in the order of updates does the row pass the others while it stays in the window.
    assert bool(lost_unchecked) == (order == "updated")


@pytest.mark.parametrize("order", ORDERS)
def test_rows_that_leave_late_after_a_bulk_change_are_noticed_by_the_last_check(order: str) -> None:
    """Earlier checks cannot tell them from the rows of the bulk change."""

    def lost(**checks: Any) -> int:
        account = moving(3_000, 1)
        change_before(account, 700)
        days_old = [row for row in account.rows()[700:] if row["updated_at"] < "2026-05-30"]
        old = sorted(days_old, key=lambda row: row[FIRST_BY[order]])
        old = old[::-1] if order == "updated_desc" else old

        def change(request: Request) -> None:
            asked = dict(request.query)
            window = Window(
                parse_instant(asked.get("updated_after", "")) or EPOCH,
                parse_instant(asked.get("updated_before", "")) or EPOCH,
            )
            read = [row for row in old if window.holds(parse_instant(row["updated_at"]) or EPOCH)]
            if "cursor" in asked and read:
                stamp = (account.clock.now() - LOOKBACK / 2).isoformat()
                account.put({**read[0], "updated_at": stamp})
                old.remove(read[0])

        copy = Copy(account, {"order": order, "cursor": "offset", "page_size": 10})
        until = copy.read(None, change, **checks)
        account.clock.advance(timedelta(seconds=1))
        copy.read(until - LOOKBACK, **checks)
        return copy.lost

    assert lost() == 0
    assert lost(again_from=EPOCH) > 0


@pytest.mark.parametrize("order", ORDERS)
def test_a_burst_that_keeps_changing_is_left_unsettled_and_read_once_it_stops(order: str) -> None:
    account = moving(300, 1, one_instant=200)

    copy = Copy(account, {"order": order, "cursor": "offset", "page_size": 10, "workers": 1})
    until = copy.read(None, restless(account, order))
    left = copy.unsettled
    account.clock.advance(timedelta(seconds=1))
    copy.read(until - LOOKBACK)

    assert left
    assert copy.unsettled == []
    assert copy.lost == 0


def test_all_bursts_that_kept_changing_are_read_by_one_run_once_they_stop() -> None:
    account = moving(300, 1, one_instant=100)
    others = [
        row for row in account.rows() if row["updated_at"] != account.rows()[-1]["updated_at"]
    ]
    earlier = (account.clock.now() - timedelta(days=20)).isoformat()
    account.put_many({**row, "updated_at": earlier} for row in others[:100])

    copy = Copy(account, {"order": "updated", "cursor": "offset", "page_size": 10, "workers": 1})
    until = copy.read(None, restless(account, "updated", bursts=2))
    left = copy.unsettled
    account.clock.advance(timedelta(seconds=1))
    copy.read(until - LOOKBACK)

    assert len(left) == 2
    assert copy.unsettled == []
    assert copy.lost == 0
