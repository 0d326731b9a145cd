"""Rows updated since a slice was begun show whether it may have skipped others."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from functools import partial

import pytest
from accounts import START
from conftest import KEY
from moving import LOOKBACK

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.http_dates import http_date
from unify_source.api.outline import Version
from unify_source.api.pages import Page, page_of
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.common.times import rfc3339
from unify_source.extract import page_queue
from unify_source.extract.cuts import slice as slices
from unify_source.extract.cuts.slice import Recent, Slice
from unify_source.extract.page_queue import PageQueue
from unify_source.extract.pagination import updated_since
from unify_source.extract.portion import Check, Piece, Portion
from unify_source.extract.window import Window
from unify_source.sandbox import Account, Clock, Request, Sandbox

SENT = "Mon, 01 Jun 2026 12:00:00 GMT"
OLD = START - timedelta(days=3)


def recent(rows: int, age: timedelta, since: datetime | None, most_pages: int = 1) -> int | None:
    """Return how many of these rows, of this age, are listed as updated since."""
    account = Account(300, clock=Clock(START), days=1)
    stamp = (START - age).isoformat()
    account.put_many({**row, "updated_at": stamp} for row in account.rows()[:rows])
    with Sandbox(account, key=KEY) as api:
        client = Client(checked_settings({"api_key": KEY, "base_url": api.url}))

        def ask(parameters: Parameters) -> Page:
            return client.page(ENROLLMENT_LIST, parameters)

        listed = updated_since(ask, since, most_pages, limit=100)
        assert since or not api.requests
    return None if listed is None else sum(each.updated == stamp for each in listed)


@pytest.mark.parametrize("age", [timedelta(), timedelta(minutes=1), LOOKBACK])
def test_a_row_that_appears_late_within_the_lookback_is_listed(age: timedelta) -> None:
    now = START + timedelta(seconds=1)
    assert recent(1, age, now - timedelta(seconds=1) - LOOKBACK) == 1


def test_as_many_rows_are_listed_as_the_slices_are_worth() -> None:
    assert recent(101, timedelta(), START) is None
    assert recent(150, timedelta(), START, most_pages=2) == 150


@pytest.mark.parametrize("changes", [1, 9])
def test_recent_rows_are_listed_again_if_one_of_them_changes_meanwhile(changes: int) -> None:
    account = Account(300, clock=Clock(START), days=1)
    changed = account.rows()[:250]
    account.put_many({**row, "updated_at": START.isoformat()} for row in changed)
    changing = sorted(changed, key=lambda row: row["id"])[:changes]

    def change(request: Request) -> None:
        if "cursor" in dict(request.query) and changing:
            account.clock.advance(timedelta(seconds=1))
            now = account.clock.now().isoformat()
            account.put({**changing.pop(0), "updated_at": now})

    with Sandbox(account, key=KEY, cursor="offset", on_request=change) as api:
        client = Client(checked_settings({"api_key": KEY, "base_url": api.url}))
        ask = partial(client.page, ENROLLMENT_LIST)
        listed = updated_since(ask, START, most_pages=9, limit=100)

    if changes == 1:
        assert {each.key for each in listed or ()} == {row["id"] for row in changed}
    else:
        assert listed is None


def test_without_the_servers_clock_nothing_is_requested_and_everything_may_have_changed() -> None:
    assert recent(1, timedelta(), None) is None
    assert slice_of(OLD).may_have_skipped(Recent.of(set()))
    assert not slice_of(OLD, sent=SENT).may_have_skipped(Recent.of(set()))


def slice_of(before: datetime, *, sent: str = "", rows: int = 1) -> Slice:
    """Return a slice that has read rows `0`, `1` and so on, each as it was three days ago."""
    slice_ = Slice(Portion(Window(None, START), PageQueue(), None), Window(None, before))
    versions = [Version(str(number), rfc3339(OLD)) for number in range(rows)]
    page = Page(b"", None, "rows", versions, sent)
    slice_.begin(page, LOOKBACK)
    slice_.note(page)
    return slice_


NOW = http_date(SENT)
assert NOW
ANOTHER = Recent.of({Version("of another slice", rfc3339(NOW))})


@pytest.mark.parametrize(
    ("before", "key", "updated", "may"),
    [
        (OLD, "0", OLD, False),
        (OLD, "0", NOW, True),
        (OLD, "0", NOW - LOOKBACK, True),
        (OLD, "of another slice", NOW, False),
        # Before it left, it may have come into the slice, without having been read.
        (NOW - LOOKBACK / 2, "of another slice", NOW, True),
        (NOW, "read as it is now", NOW, False),
    ],
)
def test_a_slice_may_have_skipped_rows_if_one_that_it_had_read_has_left_it(
    before: datetime, key: str, updated: datetime, *, may: bool
) -> None:
    read = slice_of(before, sent=SENT)

    assert read.may_have_skipped(Recent.of({Version(key, rfc3339(updated))})) == may
    assert read.may_have_skipped(None)


def test_any_row_may_have_left_a_slice_that_is_too_long_to_remember(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "_MOST_KNOWN", 100)
    assert not slice_of(OLD, sent=SENT, rows=100).may_have_skipped(ANOTHER)
    read = slice_of(OLD, sent=SENT, rows=101)

    assert read.may_have_skipped(ANOTHER)
    assert not read.may_have_skipped(Recent.of(set()))


def test_a_slice_that_is_too_long_to_remember_is_read_again_in_pieces_that_fit_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "_MOST_KNOWN", 100)
    window, read = Window(OLD, START), slice_of(START, rows=0)
    times = [OLD + timedelta(minutes=minute) for minute in range(1_000)]
    for start in range(0, len(times), 50):
        rows = [Version(str(at), rfc3339(at)) for at in times[start : start + 50]]
        read.note(Page(b"", None, "rows", rows))

    pieces = read.pieces(window)

    assert (pieces[0].after, pieces[-1].before) == (OLD, START)
    assert all(a.before == b.after for a, b in itertools.pairwise(pieces))
    assert max(sum(map(piece.holds, times)) for piece in pieces) <= 50


def test_pages_that_are_read_ahead_may_take_more_memory_than_those_that_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_queue, "MOST_BYTES", 20)
    monkeypatch.setattr(page_queue, "AHEAD_BYTES", 50)
    queue, bounded = PageQueue(ahead=100), PageQueue(ahead=3)
    for held in (queue, bounded):
        for _ in range(3):
            assert not held.is_full
            held.put(b"0123456789", 1)

    assert (queue.is_full, bounded.is_full) == (False, True)
    queue.ask()
    assert queue.is_full


def test_a_page_has_its_versions_and_date_whatever_its_rows_are() -> None:
    rows = b'{"id": "a", "updated_at": "x"}, {"updated_at": 1}, {"id": [7], "updated_at": "y"}'
    for odd in (b"", b", null", b", [1]", b", 7"):
        page = page_of(b'{"list": [%s], "next_cursor": null}' % (rows + odd), "list", date=SENT)

        assert list(page.versions) == [Version("a", "x"), Version("[7]", "y")]
        assert page.date == SENT


@pytest.mark.parametrize(
    ("found", "pages", "most"),
    [
        # A sixth of the slices' pages, unless the check before found more.
        (0, 23, 5),
        (700, 23, 8),
        # Reading the slices again takes as many.
        (700, 5, 4),
        # Rows changed faster than could be checked.
        (None, 23, 3),
    ],
)
def test_a_last_check_may_list_again_what_the_check_before_found(
    found: int | None, pages: int, most: int
) -> None:
    portion = Portion(Window(None, START), PageQueue(), None)

    def check(pages: int, *, is_read: bool) -> Check:
        portion.check_later(Slice(portion, Window(None, OLD), pages=pages))
        while isinstance(work := portion.settle(is_read=is_read), Piece):
            pass
        return work

    changed = {Version(f"new {number}", rfc3339(START)) for number in range(found or 0)}
    recent = None if found is None else Recent.of(changed)
    portion.checked(check(64, is_read=False), recent, None, is_whole=True)
    last = check(pages, is_read=True)

    assert (last.is_last, last.most_pages) == (True, most)
