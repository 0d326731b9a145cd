"""An unavailable row concerns that row alone: it takes seconds, and does not stop the run."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import dlt
import pytest
from conftest import KEY
from listing import version
from raw_server import EMPTY_PAGE, Asked, raw_server, response
from warehouse import stored

from unify_source.api.client import Client
from unify_source.common.errors import RowUnavailable
from unify_source.common.resources import ENROLLMENT_LIST, SEQUENCE_LIST
from unify_source.common.settings import checked_settings
from unify_source.runs.sync import sync

ID = "11111111-1111-4111-8111-000000000007"
DATE = "Sun, 31 May 2026 09:00:00 GMT"


def client(url: str, **given: Any) -> Client:
    return Client(checked_settings({"api_key": KEY, "base_url": url, **given}))


def silent(_: Asked, client: socket.socket) -> None:
    client.recv(1)


def cut(_: Asked, client: socket.socket) -> None:
    client.sendall(response(b"{", length=1_000))


UNAVAILABLE = {
    "400": response({"status": "bad_request"}, 400),
    "401": response(b"", 401),
    "403": response({"message": "not yours"}, 403),
    "405": response(b"", 405),
    "414": response(b"", 414),
    "429": response(b"", 429, Retry_After="86400"),
    "500": response(b"", 500),
    "503 for a day": response(b"", 503, Retry_After="86400"),
    "redirect": response(b"", 302, Location="http://127.0.0.1:9/"),
    "no content": response(b"", 204),
    "HTML": response(b"<html>Please log in</html>"),
    "null": response(None),
    "list": response([{"id": ID}]),
    "text": response(ID),
    "other id": response({"id": "other"}),
    "no id": response({}),
    "damaged": response(b'{"id": "%s", "status: 7}' % ID.encode()),
    "silent": silent,
    "cut": cut,
}


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_an_unavailable_row_is_reported_within_seconds(name: str) -> None:
    answer = UNAVAILABLE[name]
    write = answer if callable(answer) else lambda _, to: to.sendall(answer)
    # A budget of minutes is for pages: only the kind that keeps a run longest tries that.
    budget = {} if name == "silent" else {"retry_budget": 1}
    with raw_server(write) as server:
        started = time.monotonic()
        with pytest.raises(RowUnavailable, match=ID) as caught:
            client(server.url, **budget).row(ENROLLMENT_LIST, ID)

    assert time.monotonic() - started < 30
    assert "the next run" in caught.value.next_step
    assert caught.value.status == (int(name[:3]) if name[:3].isdigit() else caught.value.status)


@pytest.mark.parametrize("status", [404, 410])
def test_a_row_that_is_gone_is_none(status: int) -> None:
    with raw_server(lambda _, to: to.sendall(response(b"", status))) as server:
        assert client(server.url).row(ENROLLMENT_LIST, ID) is None

    assert len(server.asked) == 1


@pytest.mark.parametrize("key", [ID, "a/../b?c=d#e", "legacy-42", "ä ö", "%2e%2e", "x" * 2_000])
def test_a_row_is_requested_by_its_whole_id_and_returned_as_it_was_sent(key: str) -> None:
    body = json.dumps({"x": 1.0, "id": key}).encode()
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        assert client(server.url).row(ENROLLMENT_LIST, key) == body

    path = server.asked[0].path.removeprefix(f"{ENROLLMENT_LIST.path}/")
    assert "/" not in path
    assert not server.asked[0].query


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_an_id_that_would_change_the_address_is_not_requested(key: str) -> None:
    with raw_server(lambda _, to: to.sendall(response({"id": key}))) as server:
        with pytest.raises(RowUnavailable):
            client(server.url).row(ENROLLMENT_LIST, key)

        assert not server.asked


@pytest.mark.parametrize("name", ["401", "500"])
def test_the_run_continues_past_an_unavailable_row(name: str, pipeline: dlt.Pipeline) -> None:
    broken = version(ID, "05Z", is_paused="true")
    rows = [version(f"o{n}", "06Z") for n in range(20)]

    def answer(asked: Asked, to: socket.socket) -> None:
        lists = {ENROLLMENT_LIST.path: [broken, *rows], SEQUENCE_LIST.path: []}
        if asked.path not in lists:
            to.sendall(UNAVAILABLE[name])  # type: ignore[arg-type]
            return
        listed = lists[asked.path]
        page = {"enrollments": listed, "sequences": listed, "next_cursor": None}
        to.sendall(response(page, Date=DATE))

    with raw_server(answer) as server:
        for _ in range(3):
            report = sync(pipeline, api_key=KEY, base_url=server.url, retry_budget=1)
            assert report.quarantined == 1
            rows += [version(f"n{len(rows)}", "07Z")]

    assert len(stored("unify_gtm.duckdb")["enrollments"]) == len(rows) - 1


def test_a_row_that_is_refused_for_a_day_does_not_stop_the_list_for_a_day() -> None:
    def answer(asked: Asked, to: socket.socket) -> None:
        is_list = asked.path == ENROLLMENT_LIST.path
        page = response(EMPTY_PAGE)
        to.sendall(page if is_list else response(b"", 429, Retry_After="86400"))

    with raw_server(answer) as server:
        asking = client(server.url, retry_budget=1)
        with pytest.raises(RowUnavailable):
            asking.row(ENROLLMENT_LIST, ID)
        started = time.monotonic()

        assert asking.page(ENROLLMENT_LIST, []).rows == []
        assert time.monotonic() - started < 5
