"""No response takes forever or exhausts the memory: hostile servers on loopback."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPResponse
from typing import Any

import pytest
from conftest import KEY
from raw_server import EMPTY_PAGE, Asked, at_once, every_tenth_second, raw_server, response

from unify_source.api.client import Client
from unify_source.api.pages import Page, page_of
from unify_source.common.errors import ApiError
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.common.settings.limits import Limits

OK = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MB = 1 << 20


def silence() -> Iterator[bytes]:
    time.sleep(1)
    yield b""


@cache
def bomb() -> bytes:
    """Return a quarter of a gigabyte, in 250 kB."""
    return gzip.compress(b" " * 256 * MB, 1)


TOO_SLOW = ["had not sent its whole response after 1.5 seconds", "request_timeout"]
NOT_HTTP = ["is not HTTP"]
BODY = ["body is larger than 32,768 kB", "page_size"]
# A newer Python counts trailers itself, and refuses them before the body is too large.
_discard = vars(HTTPResponse)["_read_and_discard_trailer"]
TRAILERS = NOT_HTTP if "_MAXHEADERS" in _discard.__code__.co_names else BODY

HOSTILE: dict[str, tuple[Callable[[], Iterator[bytes]], list[str]]] = {
    "a status that trickles": (lambda: every_tenth_second(b"HTTP/1.1", b" "), TOO_SLOW),
    "headers that trickle": (lambda: every_tenth_second(OK + b"A: ", b"a"), TOO_SLOW),
    "a body that trickles": (
        lambda: every_tenth_second(OK + b"Content-Length: 1000\r\n\r\n", b" "),
        TOO_SLOW,
    ),
    "a body without length that trickles": (
        lambda: every_tenth_second(OK + b"\r\n", b" "),
        TOO_SLOW,
    ),
    "chunks that trickle": (lambda: every_tenth_second(CHUNKED, b"1\r\n \r\n"), TOO_SLOW),
    "a size of a chunk that trickles": (lambda: every_tenth_second(CHUNKED, b"0"), TOO_SLOW),
    "trailers that trickle": (
        lambda: every_tenth_second(CHUNKED + b"0\r\n", b"A: a\r\n"),
        TOO_SLOW,
    ),
    "continue, a little at a time": (lambda: every_tenth_second(b"", CONTINUE), TOO_SLOW),
    "continue for ever": (lambda: at_once(b"", CONTINUE), ["API sent"]),
    "a header without end": (lambda: at_once(OK + b"A: ", b"a" * 1_000), NOT_HTTP),
    "headers without end": (lambda: at_once(OK, b"A: a\r\n"), NOT_HTTP),
    "trailers without end": (
        lambda: at_once(CHUNKED + b"0\r\n", b"A" * 60_000 + b"\r\n"),
        TRAILERS,
    ),
    "a chunk's size without end": (lambda: at_once(CHUNKED, b"0" * 1_000), NOT_HTTP),
    "a gigabyte": (
        lambda: at_once(OK + b"Content-Length: 1073741824\r\n\r\n", b" " * MB),
        BODY,
    ),
    "a body without end": (lambda: at_once(OK + b"\r\n", b" " * MB), BODY),
    "chunks without end": (
        lambda: at_once(CHUNKED, b"100000\r\n" + b" " * MB + b"\r\n"),
        BODY,
    ),
    "a bomb": (lambda: iter([response(bomb(), Content_Encoding="gzip")]), BODY),
    "a bomb in a bomb": (
        lambda: iter([response(gzip.compress(bomb()), Content_Encoding="gzip, gzip")]),
        ["Content-Encoding 'gzip, gzip'"],
    ),
    "packed as br": (
        lambda: iter([response(b"x", Content_Encoding="br")]),
        ["Content-Encoding 'br'", "must send gzip"],
    ),
    "packed as zstd": (
        lambda: iter([response(b"x", Content_Encoding="zstd")]),
        ["Content-Encoding 'zstd'", "must send gzip"],
    ),
    "packed, and cut": (
        lambda: iter([response(gzip.compress(b"{}")[:-4], Content_Encoding="gzip")]),
        ["could not be unpacked"],
    ),
    "packed in ten thousand pieces": (
        lambda: iter([response(gzip.compress(b"") * 10_000, Content_Encoding="gzip")]),
        ["could not be unpacked"],
    ),
    "packed, and damaged": (
        lambda: iter([response(b"\x1f\x8b\x08garbage", Content_Encoding="gzip")]),
        ["could not be unpacked"],
    ),
    "silence": (silence, ["silent for 0.5"]),
    "no HTTP": (lambda: iter([b"220 mail.example.test ESMTP\r\n"]), NOT_HTTP),
    "a chunk of a negative length": (
        lambda: iter([OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n"]),
        NOT_HTTP,
    ),
    "lists without end in one another": (
        lambda: iter([response(b'{"enrollments":' + b"[" * 2_000_000)]),
        ["not JSON (nested too deeply"],
    ),
    "a length that is a lie": (
        lambda: iter([response(b"{}", length=10**30)]),
        ["broke before the whole response"],
    ),
}


def page(url: str, request_timeout: float = 0.5) -> Page:
    given = {
        "api_key": KEY,
        "base_url": url,
        "request_timeout": request_timeout,
        "retry_budget": 1.6,
    }
    return Client(checked_settings(given)).page(ENROLLMENT_LIST, [("limit", "1")])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_response_ends_within_its_limits_in_a_sentence(name: str) -> None:
    parts, words = HOSTILE[name]
    if "bomb" in name:
        bomb()  # Packing it takes longer than a request may.

    def answer(_: Asked, to: socket.socket) -> None:
        for part in parts():
            to.sendall(part)

    with raw_server(answer) as server:
        tracemalloc.start()
        started = time.monotonic()
        with pytest.raises(ApiError) as caught:
            page(server.url)
        seconds = time.monotonic() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value)) < 300
    assert seconds < 15
    assert peak < 2 * Limits.max_body_bytes + 20 * MB


def test_a_response_that_is_too_large_is_not_retried() -> None:
    sent = OK + b"\r\n" + b" " * (Limits.max_body_bytes + MB)
    with raw_server(lambda _, to: to.sendall(sent)) as server:
        with pytest.raises(ApiError, match="larger"):
            page(server.url, request_timeout=5)

        assert len(server.asked) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_a_page_of_many_megabytes_is_read(packed: bool) -> None:  # noqa: FBT001 - a parameter
    body = json.dumps({**EMPTY_PAGE, "enrollments": [{"id": "x" * 20 * MB}]}).encode()
    sent = response(gzip.compress(body, 1), Content_Encoding="gzip") if packed else response(body)
    with raw_server(lambda _, to: to.sendall(sent)) as server:
        assert page(server.url).body == body


def test_a_single_100_continue_is_accepted() -> None:
    with raw_server(lambda _, to: to.sendall(CONTINUE + response(EMPTY_PAGE))) as server:
        assert page(server.url).rows == []


@pytest.mark.parametrize(
    ("cursor", "words"),
    [("", "next_cursor is empty"), ("x" * (Limits.max_cursor_length + 1), "has 4,097 characters")],
    ids=["empty", "long"],
)
def test_an_invalid_cursor_is_named_after_a_single_request(cursor: str, words: str) -> None:
    with raw_server(
        lambda _, to: to.sendall(response({**EMPTY_PAGE, "next_cursor": cursor}))
    ) as server:
        with pytest.raises(ApiError, match=words):
            page(server.url)

        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({}, "a page that has no next_cursor"),
        ({"next_cursor": 5}, "next_cursor that is a number, not text"),
        ({"next_cursor": True}, "next_cursor that is true or false, not text"),
        ({"next_cursor": {}}, "next_cursor that is an object, not text"),
        ({"next_cursor": ["c"]}, "next_cursor that is a list, not text"),
    ],
)
def test_a_page_without_a_usable_cursor_is_an_error_that_describes_what_is_there(
    rest: dict[str, Any], words: str
) -> None:
    sent = response({"enrollments": [], **rest})
    with (
        raw_server(lambda _, to: to.sendall(sent)) as server,
        pytest.raises(ApiError, match=words),
    ):
        page(server.url)


DAMAGED = {
    "in mid-page": b'{"enrollments": [{"id": "1", "x: 1}, {"id": "2"}], "next_cursor": null}',
    "zeros": b'{"enrollments": [{"id": "1"}\0\0\0\0\0\0\0\0], "next_cursor": null}',
    "cut": b'{"enrollments": [{"id": "1"}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_response_damaged_in_transit_is_retried(name: str) -> None:
    answers = iter([response(DAMAGED[name])])
    with raw_server(lambda _, to: to.sendall(next(answers, response(EMPTY_PAGE)))) as server:
        assert page(server.url).rows == []

        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "row",
    [b'"\\ud800"', b"NaN", b"1" + b"0" * 5_000, b"1e999", b"[" * 100_000 + b"]" * 100_000],
    ids=["half a surrogate", "NaN", "a long number", "infinity", "100,000 levels"],
)
def test_an_odd_value_in_one_row_does_not_refuse_its_page(row: bytes) -> None:
    body = b'{"enrollments": [{"id": "1", "odd": %b}], "next_cursor": "c"}' % row
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        assert page(server.url).next_cursor == "c"
        assert page(server.url).body == body


@pytest.mark.long
@pytest.mark.parametrize("text", [b"x", b'\\"['])
def test_a_long_text_beside_a_row_that_is_too_deep_takes_memory_by_its_length(
    text: bytes,
) -> None:
    deep, long = b"[" * 100_000 + b"]" * 100_000, text * (MB // 2 // len(text))
    body = b'{"enrollments": [{"odd": %b}, {"id": "%b"}], "next_cursor": "c"}' % (deep, long)
    tracemalloc.start()

    assert page_of(body, "enrollments").next_cursor == "c"

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # orjson takes twelve bytes for each of a body's, before it finds that it is too deep.
    assert peak < 16 * len(body)


NO_OUTLINE = [b'{"id": 5}', b'{"id": "2", "x": NaN}', b'{"id": "2", "x": "\\ud800"}', b"null"]


@pytest.mark.parametrize("neighbour", NO_OUTLINE)
def test_bytes_that_are_not_utf8_refuse_no_page_whatever_is_beside_them(neighbour: bytes) -> None:
    odd = b'{"id": "1", "updated_at": "2026-01-31T08:00:00Z", "name": "Andr\xe9"}'
    body = b'{"enrollments": [%b, %b], "next_cursor": "c"}' % (odd, neighbour)
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        parsed = page(server.url)

    assert (parsed.body, parsed.next_cursor, len(parsed.rows)) == (body, "c", 2)
    assert "1" in [version.key for version in parsed.versions]


@pytest.mark.parametrize(
    "row", [b'{"id": "1\xe9"}', b'{"id": "1", "updated_at": "2026\xe9"}', b'{"id\xe9": "1"}']
)
def test_an_id_or_a_time_damaged_in_transit_is_retried(row: bytes) -> None:
    # Under another id it would be another row.
    answers = iter([response(b'{"enrollments": [%b], "next_cursor": null}' % row)])
    with raw_server(lambda _, to: to.sendall(next(answers, response(EMPTY_PAGE)))) as server:
        assert page(server.url).rows == []

        assert len(server.asked) == 2


@pytest.mark.parametrize("path", [None, 5, True, "limit", {"a": 1}, [], ["a", 0], [None], [[1]]])
@pytest.mark.parametrize("code", ["out_of_range", None, 7, ["a"]])
def test_an_error_body_of_any_shape_is_a_sentence(path: object, code: object) -> None:
    body = {"message": ["no"], "errors": [{"path": path, "code": code}, None, 7]}
    with (
        raw_server(lambda _, to: to.sendall(response(body, 400))) as server,
        pytest.raises(ApiError, match="HTTP 400"),
    ):
        page(server.url)
