"""A proxy to Postgres or S3 that reads each statement, and can be cut at any of them."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from proxy import GSS_REQUESTED, TLS_REQUESTED, Proxy

# Of the protocol: a statement by itself, and one that is prepared.
_QUERY, _PARSE = b"Q", b"P"


class StatementProxy(Proxy):
    """Calls `before` with each statement, and `after` as its answer comes, with what that gave."""

    before: Callable[[str], bool] = staticmethod(lambda _: False)
    after: Callable[[bool], None] = staticmethod(lambda _: None)

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._is_gone = False

    def leave(self) -> None:
        """Cut every connection, and refuse new ones until it comes back."""
        self._is_gone = True
        self.cut()

    def come_back(self) -> None:
        """Accept connections again."""
        self._is_gone = False

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            self._greeted(client)
            if self._is_gone:
                return
            at = (self._server.hostname or "", self._server.port or 0)
            with socket.create_connection(at) as server:
                self._sockets += [client, server]
                asked: list[bool] = []
                back = threading.Thread(target=self._answer, args=[server, client, asked])
                back.start()
                for message in self._messages(client):
                    if text := self._statement(message):
                        asked.append(self.before(text))
                    self._pass(message, client, server, asked)
                server.shutdown(socket.SHUT_WR)
                back.join()

    def _answer(self, server: socket.socket, client: socket.socket, asked: list[bool]) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                while asked:
                    self.after(asked.pop(0))
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _messages(self, client: socket.socket) -> Iterator[bytes]:
        return _messages(client)

    def _statement(self, message: bytes) -> str:
        is_one = message[:1] in (_QUERY, _PARSE)
        return message[5:].decode(errors="replace").strip("\0") if is_one else ""

    def _pass(
        self, message: bytes, client: socket.socket, server: socket.socket, asked: list[bool]
    ) -> None:
        del client, asked
        server.sendall(message)

    def _greeted(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        """Refuse to speak TLS, as often as a client asks."""
        while int.from_bytes(client.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL)[4:], "big") in (
            TLS_REQUESTED,
            GSS_REQUESTED,
        ):
            client.recv(8)
            client.sendall(b"N")
        return client, b""


def _messages(client: socket.socket) -> Iterator[bytes]:
    """Yield what a client sends, message by message: only the first has no letter before it."""
    buffer = b""
    while data := client.recv(65536):
        buffer += data
        while len(buffer) > 4:
            start = 1 if buffer[0] else 0
            size = start + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < max(size, 5):
                break
            yield buffer[:size]
            buffer = buffer[size:]


class BucketProxy(StatementProxy):
    """The same before a server that speaks S3, whose statements are requests: `PUT /bucket/key`.

    While it is `full`, it answers 503 to each that would write.
    """

    is_full = False

    def _greeted(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        return client, b""

    def _messages(self, client: socket.socket) -> Iterator[bytes]:
        return _requests(client)

    def _statement(self, message: bytes) -> str:
        return message.partition(b" HTTP/")[0].decode()

    def _pass(
        self, message: bytes, client: socket.socket, server: socket.socket, asked: list[bool]
    ) -> None:
        if not self.is_full or message.startswith((b"GET ", b"HEAD ")):
            server.sendall(message)
            return
        self.after(asked.pop())
        client.sendall(_SLOW_DOWN)


_SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 87\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


def _requests(client: socket.socket) -> Iterator[bytes]:
    """Yield a client's HTTP requests one by one."""
    buffer = b""
    while data := client.recv(65536):
        buffer += data
        while b"\r\n\r\n" in buffer:
            head, _, body = buffer.partition(b"\r\n\r\n")
            if re.search(rb"(?im)^expect: 100-continue\r?$", head):
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = re.sub(rb"(?im)^expect: 100-continue\r\n", b"", head + b"\r\n")[:-2]
                buffer = head + b"\r\n\r\n" + body
            length = re.search(rb"(?im)^content-length: (\d+)", head)
            size = len(head) + 4 + (int(length[1]) if length else 0)
            if len(buffer) < size:
                break
            yield buffer[:size]
            buffer = buffer[size:]
