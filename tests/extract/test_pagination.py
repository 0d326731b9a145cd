"""No list is read forever: endless cursors are an error."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any

import pytest
from conftest import IS_SOAK, KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from listing import version
from raw_server import Asked, RawServer, raw_server, response

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.common.errors import BrokenPage
from unify_source.common.resources import ENROLLMENT_LIST, SEQUENCE_LIST
from unify_source.common.settings import checked_settings
from unify_source.common.settings.limits import Limits
from unify_source.extract.pagination import follow, follow_closely
from unify_source.extract.reader import Reading
from unify_source.extract.samples.probe import first_instant
from unify_source.extract.window import Window

WINDOW = Window(
    datetime(2026, 5, 31, 8, tzinfo=timezone.utc), datetime(2026, 5, 31, 9, tzinfo=timezone.utc)
)
ROWS = [version(f"e{n:04}", f"{n % 60:02}Z") for n in range(200)]
chance = random.Random(7)


def beyond(number: int) -> dict[str, Any]:
    at = WINDOW.before + timedelta(seconds=1 + number)
    return {**ROWS[0], "id": f"x{number}", "updated_at": at.isoformat()}


# What the server sends as its page of a number, counted over all requests.
ENDLESS: dict[str, Callable[[int], list[Any]]] = {
    "the same page": lambda _: ROWS[:20],
    "the same page in another order": lambda _: chance.sample(ROWS[:20], 20),
    "the same rows, page by page": lambda n: ROWS[n % 10 * 20 :][:20],
    "the same rows, some of them": lambda _: chance.sample(ROWS, 20),
    "no rows": lambda _: [],
    "hardly ever rows": lambda n: ROWS[:1] if n % 50 == 0 else [],
    "rows beyond the window": lambda n: [beyond(20 * n + i) for i in range(20)],
    "null": lambda _: [None] * 20,
    "a row without an id": lambda _: [{"updated_at": "2026-05-31T08:00:00Z"}],
}


def serving(pages: Callable[[int], list[Any]]) -> Callable[[Asked, socket.socket], None]:
    numbers = count()

    def answer(_: Asked, to: socket.socket) -> None:
        number = next(numbers)
        page = {
            "enrollments": pages(number),
            "sequences": pages(number),
            "next_cursor": f"fresh-{number}",
        }
        to.sendall(response(page))

    return answer


def client(server: RawServer) -> Client:
    return Client(checked_settings({"api_key": KEY, "base_url": server.url}))


@pytest.mark.parametrize("name", ENDLESS)
def test_a_list_that_never_ends_is_an_error(name: str) -> None:
    with raw_server(serving(ENDLESS[name])) as server:
        reading = Reading(client(server), ENROLLMENT_LIST, [WINDOW], (), page_size=20, workers=4)
        with pytest.raises(BrokenPage, match="100 pages in a row without a new row"):
            list(reading)

    assert len(server.asked) < 1_500


@pytest.mark.parametrize("name", ["the same page", "no rows"])
def test_a_list_without_windows_that_never_ends_is_an_error(name: str) -> None:
    with (
        raw_server(serving(ENDLESS[name])) as server,
        pytest.raises(BrokenPage, match="in a row without a new row"),
    ):
        list(follow(partial(client(server).page, SEQUENCE_LIST), [("limit", "20")]))


def test_a_repeated_cursor_is_an_error_at_once() -> None:
    page = response({"sequences": ROWS[:5], "next_cursor": "again"})
    with raw_server(lambda _, to: to.sendall(page)) as server:
        with pytest.raises(BrokenPage, match="same next_cursor twice"):
            list(follow(partial(client(server).page, SEQUENCE_LIST), [("limit", "20")]))

        assert len(server.asked) == 2


def test_empty_pages_and_pages_of_known_rows_do_not_end_a_list() -> None:
    """A server that cuts pages before it filters, and rows that change while they are read."""
    pages = [ROWS[:20], *[[]] * 60, ROWS[:20], ROWS[20:21], *[[beyond(1)]] * 60, ROWS[21:]]

    def answer(asked: Asked, to: socket.socket) -> None:
        number = int(asked.query.get("cursor", "0"))
        following = str(number + 1) if number + 1 < len(pages) else None
        to.sendall(response({"enrollments": pages[number], "next_cursor": following}))

    with raw_server(answer) as server:
        reading = Reading(client(server), ENROLLMENT_LIST, [WINDOW], (), page_size=20, workers=1)
        bodies = [body for batch in reading for body in batch]

    assert max(60, 61) < Limits.max_idle_pages
    assert len(bodies) >= len(pages)
    assert any(b"e0199" in body for body in bodies)


def test_the_search_for_the_first_instant_takes_few_requests_whatever_the_server_sends() -> None:
    for pages in ENDLESS.values():
        with raw_server(serving(pages)) as server:
            first_instant(partial(client(server).page, ENROLLMENT_LIST), WINDOW.before)

        assert len(server.asked) <= 7


@settings(max_examples=1_000 if IS_SOAK else 100)
@given(
    size=st.integers(0, 40),
    leaving=st.lists(st.lists(st.integers(0, 39), max_size=12), max_size=30),
    cursor=st.sampled_from(["offset", "keyset"]),
)
def test_a_list_that_was_followed_closely_has_shown_every_row_that_stayed(
    size: int, leaving: list[list[int]], cursor: str
) -> None:
    """Remove these rows from the list before each request."""
    listed = list(range(size))
    steps = iter(leaving)
    shown: set[int] = set()

    def ask(parameters: Parameters) -> Page:
        gone = next(steps, [])
        listed[:] = [row for row in listed if row not in gone]
        at = int(dict(parameters).get("cursor", "0"))
        behind = listed[at:] if cursor == "offset" else [row for row in listed if row >= at]
        page, more = behind[:5], len(behind) > 5
        shown.update(page)
        following = at + 5 if cursor == "offset" else page[-1] + 1 if page else 0
        body = json.dumps({"rows": [{"id": str(row)} for row in page]}).encode()
        return Page(body, str(following) if more else None, "rows")

    is_whole = follow_closely(ask, [], WINDOW)

    assert not is_whole or shown >= set(listed)
    assert is_whole or any(leaving)
