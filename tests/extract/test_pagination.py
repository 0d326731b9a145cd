"""No list is read for ever: a server whose cursors never end is found out."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any

import pytest
from conftest import KEY
from listing import version
from raw_server import Asked, RawServer, raw_server, response

from unify_source.api.client import Client
from unify_source.errors import BrokenPage
from unify_source.extract.pagination import follow
from unify_source.extract.probe import first_instant
from unify_source.extract.reader import Reading
from unify_source.extract.window import Window
from unify_source.limits import Limits
from unify_source.resources import ENROLLMENT_LIST, SEQUENCE_LIST
from unify_source.settings import checked_settings

WINDOW = Window(
    datetime(2026, 5, 31, 8, tzinfo=timezone.utc), datetime(2026, 5, 31, 9, tzinfo=timezone.utc)
)
ROWS = [version(f"e{n:04}", f"{n % 60:02}Z") for n in range(1_000)]
chance = random.Random(7)


def beyond(number: int) -> dict[str, Any]:
    at = WINDOW.before + timedelta(seconds=1 + number)
    return {**ROWS[0], "id": f"x{number}", "updated_at": at.isoformat()}


# What the server sends as its page of a number, counted over all requests.
ENDLESS: dict[str, Callable[[int], list[Any]]] = {
    "the same page": lambda _: ROWS[:100],
    "the same page in another order": lambda _: chance.sample(ROWS[:100], 100),
    "the same rows, page by page": lambda n: ROWS[n % 10 * 100 :][:100],
    "the same rows, some of them": lambda _: chance.sample(ROWS, 100),
    "no rows": lambda _: [],
    "hardly ever rows": lambda n: ROWS[:1] if n % 50 == 0 else [],
    "rows beyond the window": lambda n: [beyond(100 * n + i) for i in range(100)],
    "null": lambda _: [None] * 100,
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
        reading = Reading(client(server), ENROLLMENT_LIST, [WINDOW], (), page_size=100, workers=4)
        started = time.monotonic()
        with pytest.raises(BrokenPage, match="100 pages in a row without a new row"):
            list(reading)
        seconds, requests = time.monotonic() - started, len(server.asked)

    assert seconds < 60
    assert requests < 1_500


@pytest.mark.parametrize("name", ["the same page", "no rows"])
def test_a_list_without_windows_that_never_ends_is_an_error(name: str) -> None:
    with (
        raw_server(serving(ENDLESS[name])) as server,
        pytest.raises(BrokenPage, match="in a row without a new row"),
    ):
        list(follow(partial(client(server).page, SEQUENCE_LIST), [("limit", "100")]))


def test_a_cursor_that_comes_again_is_an_error_at_once() -> None:
    page = response({"sequences": ROWS[:5], "next_cursor": "again"})
    with raw_server(lambda _, to: to.sendall(page)) as server:
        with pytest.raises(BrokenPage, match="same next_cursor twice"):
            list(follow(partial(client(server).page, SEQUENCE_LIST), [("limit", "100")]))

        assert len(server.asked) == 2


def test_empty_pages_and_pages_of_known_rows_amid_a_list_are_read_past() -> None:
    """A server that filters after it cut its pages, and rows that change while they are read."""
    pages = [ROWS[:100], *[[]] * 60, ROWS[:100], ROWS[100:101], *[[beyond(1)]] * 60, ROWS[101:]]

    def answer(asked: Asked, to: socket.socket) -> None:
        number = int(asked.query.get("cursor", "0"))
        following = str(number + 1) if number + 1 < len(pages) else None
        to.sendall(response({"enrollments": pages[number], "next_cursor": following}))

    with raw_server(answer) as server:
        reading = Reading(client(server), ENROLLMENT_LIST, [WINDOW], (), page_size=100, workers=1)
        bodies = [body for batch in reading for body in batch]

    assert max(60, 61) < Limits.max_idle_pages
    assert len(bodies) >= len(pages)
    assert b"e0999" in bodies[-1]


def test_the_first_instant_is_looked_for_in_few_requests_whatever_is_sent() -> None:
    for pages in ENDLESS.values():
        with raw_server(serving(pages)) as server:
            first_instant(client(server), ENROLLMENT_LIST, WINDOW.before)

        assert len(server.asked) <= 7
