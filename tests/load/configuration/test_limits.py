"""Each limit is a setting, which the error names when it is exceeded."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from destinations import DESTINATIONS, Destination, opened
from listing import listing, version
from raw_server import EMPTY_PAGE, Asked, raw_server, response
from standing import load

from unify_source import sync
from unify_source.api.client import Client
from unify_source.common.errors import ApiError, LockHeld
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.destinations.locks.turns import Turns
from unify_source.extract.pagination import follow

Serve = Callable[[Asked, socket.socket], None]


def client(url: str, **given: Any) -> Client:
    known = {"api_key": "k", "base_url": url, "request_timeout": 5, "retry_budget": 0.1}
    return Client(checked_settings({**known, **given}))


def page(cursor: str | None = None, **more: Any) -> bytes:
    return response({"enrollments": [], "next_cursor": cursor, **more})


def every_moment(_: Asked, to: socket.socket) -> None:
    to.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
    body = json.dumps(EMPTY_PAGE).ljust(60).encode()
    for letter in body:
        to.sendall(bytes([letter]))
        threading.Event().wait(0.005)


RESPONSES: dict[str, tuple[Serve, Any, Any]] = {
    "max_body_bytes": (lambda _, to: to.sendall(page(more="x" * 2_000)), 1_024, 4_096),
    "max_cursor_length": (lambda _, to: to.sendall(page("c" * 100)), 99, 100),
    "max_response_seconds": (every_moment, 0.05, 60),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_the_limit_that_a_response_exceeds_is_named_and_can_be_raised(name: str) -> None:
    serve, low, high = RESPONSES[name]
    with raw_server(serve) as server:
        with pytest.raises(ApiError, match=name):
            client(server.url, **{name: low}).page(ENROLLMENT_LIST, [])

        assert client(server.url, **{name: high}).page(ENROLLMENT_LIST, []).rows == []


@pytest.mark.parametrize("most", [2, 5])
def test_a_list_without_new_rows_ends_after_max_idle_pages(most: int) -> None:
    cursors = map(str, count())
    with raw_server(lambda _, to: to.sendall(page(next(cursors)))) as server:
        ask = client(server.url, max_idle_pages=most)
        limits = checked_settings({"api_key": "k", "max_idle_pages": most}).limits
        with pytest.raises(ApiError, match="max_idle_pages"):
            list(follow(partial(ask.page, ENROLLMENT_LIST), [], limits=limits))

        assert most <= len(server.asked) <= 2 * most + 1


@pytest.fixture
def duckdb(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    with opened(DESTINATIONS[0], home, request) as found:
        yield found


def test_the_quarantine_names_the_limit_that_a_row_exceeds_and_it_can_be_raised(
    duckdb: Destination,
) -> None:
    beyond: dict[str, dict[str, Any]] = {
        "max_depth": {"new": [[[[[1]]]]]},
        "max_row_bytes": {"other": "x" * 3_000},
    }

    def rows(seconds: str) -> list[dict[str, Any]]:
        return [version(name, seconds, **more) for name, more in beyond.items()]

    with listing([*rows("05Z"), version("e", "05Z")]) as url:
        assert load(duckdb, url, max_depth=5, max_row_bytes=1_024).quarantined == 2
        reasons = dict(duckdb.reads("enrollments_quarantine", ["id", "reason"]))
        assert all(name in reasons[name] for name in beyond)
    with listing(rows("06Z")) as url:
        assert load(duckdb, url, max_depth=6, max_row_bytes=8_192).quarantined == 0


def test_a_table_gets_at_most_max_new_columns(duckdb: Destination) -> None:
    more = {"a": 1, "b": 2, "c": 3}
    with listing([version("e1", "05Z", **more)]) as url:
        assert "max_new_columns" in str(load(duckdb, url, max_new_columns=1).notices)
        assert {"a", "more_fields"} <= set(duckdb.columns("enrollments"))
        assert not {"b", "c"} & set(duckdb.columns("enrollments"))
    with listing([version("e1", "06Z", **more)]) as url:
        load(duckdb, url, max_new_columns=3)
        assert {"a", "b", "c"} <= set(duckdb.columns("enrollments"))


def test_a_function_that_timed_out_on_the_lock_names_its_argument_not_the_option(
    duckdb: Destination,
) -> None:
    with Turns(duckdb.pipeline(), 1).turn(), pytest.raises(LockHeld) as caught:
        sync(duckdb.pipeline(), api_key="k", base_url="http://127.0.0.1:1", lock_timeout=0)

    assert "lock_timeout" in caught.value.next_step
    assert "--" not in caught.value.next_step
