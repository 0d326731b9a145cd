"""Faults between a connector and the API: a proxy that forwards every response, or damages it."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from itertools import count, cycle
from typing import Any, NamedTuple

from raw_server import Asked, every_tenth_second, raw_server, response
from ways import WAYS, broken_way

from unify_source.sandbox import Sandbox

# Closing sends a reset instead of a farewell.
_RESET = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """The API's response, and the cursor of the request."""

    status: int
    headers: dict[str, str]
    body: bytes
    cursor: str | None

    def sent(self, **changed: Any) -> bytes:
        """Return the response with these parts changed."""
        status, headers, body, _ = self._replace(**changed)
        named: dict[str, Any] = {name.replace("-", "_"): value for name, value in headers.items()}
        return response(body, status, **named)

    def clock(self, offset: timedelta) -> bytes:
        """Return the response of a server whose clock is off."""
        date = parsedate_to_datetime(self.headers["date"]) + offset
        return self.sent(headers={**self.headers, "date": format_datetime(date, usegmt=True)})


Damage = Callable[[Answer, socket.socket], Iterator[bytes]]


def sends(part: Callable[[Answer], bytes]) -> Damage:
    """Return the damage that sends this once."""
    return lambda answer, _to: iter([part(answer)])


def refusal(status: int, **headers: str) -> Damage:
    """Return the damage that answers with an error."""
    return sends(
        lambda answer: answer.sent(
            status=status, body=b'{"code":"x"}', headers={**answer.headers, **headers}
        )
    )


def body(change: Callable[[bytes], bytes], **headers: str) -> Damage:
    """Return the damage that changes the body, and leaves the rest as it is."""
    return sends(
        lambda answer: answer.sent(body=change(answer.body), headers={**answer.headers, **headers})
    )


def hang(_answer: Answer, to: socket.socket) -> Iterator[bytes]:
    """Send nothing until the client hangs up."""
    to.recv(1)
    yield b""


def late(answer: Answer, _to: socket.socket) -> Iterator[bytes]:
    """Send the response after half a second."""
    time.sleep(0.5)
    yield answer.sent()


def reset(_answer: Answer, to: socket.socket) -> Iterator[bytes]:
    """Reset the connection."""
    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    yield b""


def trickle(answer: Answer, _to: socket.socket) -> Iterator[bytes]:
    """Send the head, and then a space now and then."""
    head, _, _ = answer.sent().partition(b"\r\n\r\n")
    return every_tenth_second(head + b"\r\n\r\n", b" ")


def repeated(answer: Answer) -> bytes:
    """Return the page with the cursor that it was asked with, where there was one."""
    if not answer.cursor:
        return answer.sent()
    page = json.loads(answer.body) | {"next_cursor": answer.cursor}
    return answer.sent(body=json.dumps(page).encode())


HTML = b"<html><body>Please log in</body></html>"
TEN_MINUTES = timedelta(minutes=10)
BEHIND = "clock ten minutes behind"

DAMAGES: dict[str, Damage] = {
    "400": refusal(400),
    "400 to a cursor": sends(
        lambda answer: answer.sent(status=400, body=b"{}") if answer.cursor else answer.sent()
    ),
    "401": refusal(401),
    "403": refusal(403),
    "404": refusal(404),
    "408": refusal(408),
    "429, Retry-After 1": refusal(429, retry_after="1"),
    "429, Retry-After a date": sends(
        lambda answer: answer.sent(
            status=429, headers={**answer.headers, "retry-after": answer.headers["date"]}
        )
    ),
    "500": refusal(500),
    "502 of HTML": sends(lambda answer: answer.sent(status=502, body=HTML)),
    "503": refusal(503),
    "connection closed before the response": lambda _answer, _to: iter([b""]),
    "connection closed within the body": sends(lambda answer: answer.sent()[:-20]),
    "connection reset": reset,
    "connection that hangs": hang,
    "response half a second late": late,
    "body that trickles": trickle,
    "body cut, Content-Length that fits": body(lambda text: text[: len(text) // 2]),
    "200 of HTML": body(lambda _: HTML, content_type="text/html"),
    "200, empty": body(lambda _: b""),
    "204": sends(lambda answer: answer.sent(status=204, body=b"")),
    "200 without its list": body(lambda _: b'{"next_cursor":null}'),
    "200 with its list twice": body(lambda text: text[:-1] + b',"enrollments":[]}'),
    "200 with its cursor twice": body(lambda text: text[:-1] + b',"next_cursor":null}'),
    "bytes that are not UTF-8": body(lambda text: text.replace(b'"', b'"\xff', 1)),
    "gzip": body(gzip.compress, content_encoding="gzip"),
    "gzip, cut": body(lambda text: gzip.compress(text)[:-20], content_encoding="gzip"),
    "gzip that is invalid": body(lambda text: text, content_encoding="gzip"),
    "redirect to itself": sends(
        lambda answer: answer.sent(
            status=302, body=b"", headers={**answer.headers, "location": "/"}
        )
    ),
    "redirect elsewhere": sends(
        lambda answer: answer.sent(
            status=307, body=b"", headers={**answer.headers, "location": "http://127.0.0.1:9/"}
        )
    ),
    "cursor that repeats": sends(repeated),
    "no Date": sends(lambda answer: answer.sent(headers={})),
    "clock ten minutes ahead": sends(lambda answer: answer.clock(TEN_MINUTES)),
    BEHIND: sends(lambda answer: answer.clock(-TEN_MINUTES)),
}
FAULTS = (*WAYS, *DAMAGES)

# By the number of the request or of its connection, from 0; the first asks for the server's time.
PLACES: dict[str, Callable[[int], bool]] = {
    "first request": lambda number: number == 0,
    "a later page": lambda number: number == 6,
    "every third": lambda number: number % 3 == 2,
    "every one": lambda _: True,
}


def forwarded(asked: Asked, port: int) -> Answer:
    """Ask the API the same, and return its answer without what only concerns the connection."""
    first, *lines = asked.head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    headers |= {"Accept-Encoding": "identity", "Connection": "close"}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", first.split(" ")[1], headers=headers)
    got = connection.getresponse()
    of_all = {name.lower(): value for name, value in got.headers.items()}
    kept = {name: value for name, value in of_all.items() if name in ("content-type", "date")}
    with got:
        return Answer(got.status, kept, got.read(), asked.query.get("cursor"))


@contextmanager
def between(api: Sandbox, faults: Sequence[str], place: str) -> Iterator[str]:
    """Yield the address of a way to an API, with a fault in one place, which must occur.

    Several strike in turn.
    """
    struck: list[int] = []

    def is_hit(number: int) -> bool:
        if is_there := PLACES[place](number):
            struck.append(number)
        return is_there

    if damages := [DAMAGES[fault] for fault in faults if fault in DAMAGES]:
        with _damaging(api, damages, is_hit) as url:
            yield url
    else:
        (fault,) = faults
        # One connection for each request, so that both have the same number.
        with _damaging(api) as url, broken_way(url, fault, is_hit) as way:
            yield way
    assert struck, "the run has not met the fault"


@contextmanager
def _damaging(
    api: Sandbox,
    damages: Sequence[Damage] = (),
    is_hit: Callable[[int], bool] = lambda _: False,
) -> Iterator[str]:
    """Forward an API's responses, damaging those of requests with these numbers."""
    numbers, turns, port = count(), cycle(damages), int(api.url.rpartition(":")[2])

    def answer(asked: Asked, to: socket.socket) -> None:
        is_struck = is_hit(next(numbers))
        answered = forwarded(asked, port)
        for part in next(turns)(answered, to) if is_struck else (answered.sent(),):
            to.sendall(part)

    with raw_server(answer) as server:
        yield server.url


@contextmanager
def noticed(
    api: Sandbox, before: Callable[[str], bool], after: Callable[[bool], None]
) -> Iterator[str]:
    """Yield the address of a way to an API, and call both around each request."""
    port = int(api.url.rpartition(":")[2])

    def answer(asked: Asked, to: socket.socket) -> None:
        is_hit = before(asked.path)
        answered = forwarded(asked, port).sent()
        to.sendall(answered)
        after(is_hit)

    with raw_server(answer) as server:
        yield server.url
