"""A server of raw bytes: it sends what a test writes, whether that is HTTP or not."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from listening import listening

Query = dict[str, str]
EMPTY_PAGE: dict[str, object] = {"enrollments": [], "next_cursor": None}


@dataclass
class Asked:
    """One request: its path, its query and its whole head."""

    path: str
    query: Query
    head: bytes


@dataclass
class RawServer:
    """The address of a server, and the requests to it."""

    port: int
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def raw_server(answer: Callable[[Asked, socket.socket], None]) -> Iterator[RawServer]:
    """Serve one request a connection: `answer` writes to it, and it is closed afterwards."""
    requests: list[Asked] = []

    def serve(client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(65536)):
            head += data
        if not head:
            return
        target = urlsplit(head.split(b" ", 2)[1].decode())
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        request = Asked(target.path, query, head)
        requests.append(request)
        answer(request, client)

    with listening(serve) as port:
        yield RawServer(port, requests)


def response(
    body: bytes | Any, status: int = 200, *, length: int | None = None, **headers: str
) -> bytes:
    """Return a whole response; a body that is not bytes is sent as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Length: {len(sent) if length is None else length}",
        "Connection: close",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent


def every_tenth_second(start: bytes, again: bytes) -> Iterator[bytes]:
    """Send a part every tenth of a second, forever."""
    yield start
    for part in repeat(again):
        time.sleep(0.1)
        yield part


def at_once(start: bytes, again: bytes) -> Iterator[bytes]:
    """Send a part over and over, as fast as the client reads."""
    yield start
    yield from repeat(again)
