"""HTTPS as it is in the field: certificates, a company's own authority, and a proxy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from test_command import Ran, command
from warehouse import shown, stored

from unify_source.sandbox import Account, Sandbox

KEY = "uk-behind-tls-7Qm3zz"


class Front:
    """Listens on loopback and hands what comes to the sandbox: over TLS, or as a proxy does."""

    def __init__(self, behind: str, tls: ssl.SSLContext | None = None) -> None:
        self._behind = behind
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept nothing any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            else:
                self.heads.append(client.recv(65536))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            host, port = self._behind.split(":")
            server = socket.create_connection((host, int(port)))
            threading.Thread(target=_pump, args=[server, client], daemon=True).start()
            _pump(client, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(Account(300), key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(api: Sandbox, authority: trustme.CA) -> Iterator[Front]:
    """Start the sandbox's front, with a certificate of a company's own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    front = Front(urlsplit(api.url).netloc, context)
    yield front
    front.close()


@pytest.fixture
def bundle(authority: trustme.CA, home: Path) -> str:
    authority.cert_pem.write_to_path(home / "authority.pem")
    return str(home / "authority.pem")


def sync(at: str, **environment: str) -> Ran:
    return command(
        "sync",
        **{
            "UNIFY_API_KEY": KEY,
            "SOURCES__UNIFY__BASE_URL": f"https://{at}",
            "SOURCES__UNIFY__RETRY_BUDGET": "0.5",
            "REQUESTS_CA_BUNDLE": "",
            "CURL_CA_BUNDLE": "",
            "NO_PROXY": "",
            **environment,
        },
    )


def test_a_companys_own_authority_is_trusted_where_the_environment_names_it(
    api: Sandbox, https: Front, bundle: str, home: Path
) -> None:
    ran = sync(https.at, REQUESTS_CA_BUNDLE=bundle)

    assert ran.returncode == 0, ran.stderr
    assert stored(home / "unify_gtm.duckdb") == shown(api.account.rows())


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_key_is_sent(
    api: Sandbox, https: Front
) -> None:
    ran = sync(https.at)

    assert ran.returncode == 1
    assert "certificate could not be verified" in ran.stderr
    assert KEY not in ran.stderr
    assert not api.requests


def test_a_bundle_that_is_not_there_is_named(https: Front) -> None:
    ran = sync(https.at, REQUESTS_CA_BUNDLE="/nowhere/bundle.pem")

    assert ran.returncode == 2, ran.stderr
    assert "/nowhere/bundle.pem" in ran.stderr


def test_a_proxy_of_the_environment_is_used_and_never_sees_the_key(
    api: Sandbox, https: Front, bundle: str, home: Path
) -> None:
    proxy = Front(https.at)

    ran = sync(https.at, REQUESTS_CA_BUNDLE=bundle, HTTPS_PROXY=f"http://{proxy.at}")

    proxy.close()
    assert ran.returncode == 0, ran.stderr
    assert stored(home / "unify_gtm.duckdb") == shown(api.account.rows())
    assert proxy.heads
    assert all(head.startswith(b"CONNECT ") and KEY.encode() not in head for head in proxy.heads)


def test_a_proxy_that_is_not_there_is_blamed_for_it(https: Front, bundle: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"

    ran = sync(https.at, REQUESTS_CA_BUNDLE=bundle, HTTPS_PROXY=closed)

    assert ran.returncode == 1
    assert "HTTPS_PROXY" in ran.stderr
