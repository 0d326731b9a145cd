"""Faults on the way to the API, before there is a request: its name, its port, its certificate.

The connector asks for `https://api.example.test`. A name server of the test's answers for that
name, and stands in for the system's, which no test may change. TLS is real.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme
from proxy import Proxy

HOST = "api.example.test"
_YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)

Certify = Callable[[trustme.CA], trustme.LeafCert]

NO_NAME_SERVER = "DNS: a name server that does not answer"
UNRESOLVED: dict[str, int] = {
    "DNS: a name that is not known": socket.EAI_NONAME,
    NO_NAME_SERVER: socket.EAI_AGAIN,
}
REFUSED = "connection refused"
CERTIFICATES: dict[str, Certify] = {
    "TLS: a certificate that has expired": lambda known: known.issue_cert(
        HOST, not_before=_YESTERDAY - timedelta(days=1), not_after=_YESTERDAY
    ),
    "TLS: a certificate of another authority": lambda _: trustme.CA().issue_cert(HOST),
    "TLS: a certificate of another host": lambda known: known.issue_cert("other.example.test"),
}
NO_TLS = "TLS: a server that does not speak it"
WAYS = (*UNRESOLVED, REFUSED, *CERTIFICATES, NO_TLS)
SAMPLE = (*[*UNRESOLVED][:1], *[*CERTIFICATES][:1])
"""One of each kind, for each run of the tests."""


class Encrypting(Proxy):
    """Speaks HTTPS before a server that does not: each connection with the next context.

    None is a server of another protocol, which speaks first.
    """

    def __init__(self, address: str, contexts: Iterator[ssl.SSLContext | None]) -> None:
        super().__init__(address)
        self._contexts = contexts

    def _greeted(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        context = next(self._contexts)
        if context is None:
            client.sendall(b"220 ESMTP\r\n")
            client.close()
            raise ConnectionAbortedError
        try:
            return context.wrap_socket(client, server_side=True), b""
        except ssl.SSLError:
            client.close()
            raise


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return what a server with this certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@contextmanager
def broken_way(address: str, fault: str, is_hit: Callable[[int], bool]) -> Iterator[str]:
    """Lead to a server over https, and fail where a connection has one of these numbers."""
    known, folder = trustme.CA(), Path.cwd()
    known.cert_pem.write_to_path(folder / "authority.pem")
    sound = context_of(known.issue_cert(HOST))
    certify = CERTIFICATES.get(fault)
    broken = context_of(certify(known)) if certify else None if fault == NO_TLS else sound
    contexts = (broken if is_hit(number) else sound for number in count())
    with Encrypting(address, contexts) as front, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "authority.pem"))
        patch.setenv("NO_PROXY", HOST)
        port = int(front.at.rpartition(":")[2])
        patch.setattr(socket, "getaddrinfo", _name_server(fault, is_hit))
        yield f"https://{HOST}:{port}"


def _name_server(fault: str, is_hit: Callable[[int], bool]) -> Callable[..., Any]:
    of_the_system, numbers = socket.getaddrinfo, count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed: int = taken.getsockname()[1]

    def answer(host: Any, port: Any, *more: Any, **others: Any) -> Any:
        if host != HOST:
            return of_the_system(host, port, *more, **others)
        is_struck = is_hit(next(numbers))
        if is_struck and fault in UNRESOLVED:
            raise socket.gaierror(UNRESOLVED[fault], "the name server has no address")
        at = closed if is_struck and fault == REFUSED else port
        return of_the_system("127.0.0.1", at, *more, **others)

    return answer
