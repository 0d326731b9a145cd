"""A look at the recent rows tells whether any row has changed since the look before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from accounts import START
from conftest import KEY
from moving import LOOKBACK

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page, page_of
from unify_source.extract.watch import Watch
from unify_source.resources import ENROLLMENT_LIST
from unify_source.sandbox import Account, Clock, Sandbox
from unify_source.settings import checked_settings


def changed(
    size: int, age: timedelta, pause: timedelta = timedelta(), recent: int = 0
) -> tuple[bool, bool]:
    """Tell whether a watch notices that the oldest row changes, and whether it is blind.

    Its new `updated_at` is so old; a while passes before, in which the watch takes a look.
    """
    account = Account(size + recent, clock=Clock(START), days=1)
    now = START.isoformat()
    account.put_many({**row, "updated_at": now} for row in account.rows()[-recent or size :])
    with Sandbox(account, key=KEY) as api:
        client = Client(checked_settings({"api_key": KEY, "base_url": api.url}))

        def ask(parameters: Parameters) -> Page:
            return client.page(ENROLLMENT_LIST, parameters)

        watch = Watch(ask, LOOKBACK)
        watch.begin(account.clock.now())
        watch.begin(account.clock.now())
        assert watch.look(account.clock.now()) == watch.changes
        before = watch.look(account.clock.now())
        account.clock.advance(pause)
        between = watch.look(account.clock.now())
        assert between == before or watch.is_blind
        stamp = account.clock.now() - age
        account.put({**account.rows()[0], "updated_at": stamp.isoformat()})
        return watch.look(account.clock.now()) > between, watch.is_blind


@pytest.mark.parametrize("age", [timedelta(), timedelta(minutes=1), LOOKBACK])
@pytest.mark.parametrize("pause", [timedelta(), 5 * LOOKBACK])
def test_a_change_is_noticed_however_late_it_shows_within_the_lookback(
    age: timedelta, pause: timedelta
) -> None:
    assert changed(100, age, pause) == (True, False)


def test_a_change_that_shows_later_than_the_lookback_is_not() -> None:
    assert changed(100, LOOKBACK + timedelta(seconds=1)) == (False, False)


def test_more_recent_rows_than_a_page_count_as_a_change_each_time() -> None:
    assert changed(100, timedelta(days=2), recent=101) == (True, True)


def test_without_the_servers_clock_every_look_counts_as_a_change() -> None:
    def ask(_parameters: Parameters) -> Page:
        raise AssertionError("there is nothing to ask")

    watch = Watch(ask, LOOKBACK)

    assert [watch.look(None), watch.look(None)] == [1, 2]


def test_a_page_tells_its_instants_and_its_date_whatever_its_rows_are() -> None:
    rows = b'{"id": "a", "updated_at": "x"}, {"updated_at": 1}, {"id": "b"}, {"updated_at": "y"}'
    date = "Mon, 01 Jun 2026 12:00:00 GMT"
    for odd in (b"", b", null", b", [1]", b", 7"):
        page = page_of(b'{"list": [%s], "next_cursor": null}' % (rows + odd), "list", date=date)

        assert list(page.updated) == ["x", "y"]
        assert page.date == date
