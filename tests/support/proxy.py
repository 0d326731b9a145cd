"""A way to a server that can be taken away: a TCP proxy that falls silent, cuts, or speaks TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import trustme

TLS_REQUESTED, GSS_REQUESTED = 80877103, 80877104
# Closing sends a reset instead of a farewell, as a router does that has forgotten a connection.
RESET = struct.pack("ii", 1, 0)

Itself = TypeVar("Itself", bound="Proxy")


class Proxy:
    """Stands before a server that is named by its address; `url` is the address to use instead.

    With `tls` clients of Postgres may ask for an encrypted connection, behind a certificate that
    nobody signed but ourselves.
    """

    def __init__(self, address: str, *, tls: bool = False) -> None:
        self._server = urlsplit(address)
        self._tls = _certificate() if tls else None
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.encrypted = 0
        self.bytes = 0

    @property
    def at(self) -> str:
        """Host and port of the proxy."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        """The server's address by way of the proxy."""
        user = self._server.netloc.rpartition("@")[0]
        return urlunsplit(self._server._replace(netloc=f"{user}@{self.at}"))

    def __enter__(self: Itself) -> Itself:  # noqa: PYI019 - typing.Self came with Python 3.11
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def silence(self) -> None:
        """Forward nothing any more, without a word."""
        self._flowing.clear()

    def cut(self) -> None:
        """Reset every connection, on both sides; new ones are forwarded again."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                one.shutdown(socket.SHUT_RDWR)
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            client, first = self._greeted(client)
            server = socket.create_connection((self._server.hostname or "", self._server.port or 0))
            self._sockets += [client, server]
            server.sendall(first)
            threading.Thread(target=self._pump, args=[server, client], daemon=True).start()
            self._pump(client, server)

    def _greeted(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        """Agree with a client on how to talk; return its connection and what is to be forwarded."""
        first = client.recv(8, socket.MSG_WAITALL)
        while len(first) == 8 and int.from_bytes(first[4:], "big") in (
            TLS_REQUESTED,
            GSS_REQUESTED,
        ):
            is_tls = self._tls and int.from_bytes(first[4:], "big") == TLS_REQUESTED
            client.sendall(b"S" if is_tls else b"N")
            if is_tls and self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
                self.encrypted += 1
            first = b""
        return client, first

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                self.bytes += len(data)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("warehouse.example").configure_cert(context)
    return context
