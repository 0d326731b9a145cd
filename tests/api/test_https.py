"""HTTPS as it is in the field: certificates, a company's own authority, and a proxy."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
import trustme
from commands import Ran, command
from proxy import Proxy
from warehouse import shown, stored
from ways import HOST, Encrypting, context_of

from unify_source.sandbox import Account, Sandbox

KEY = "uk-behind-tls-7Qm3zz"


class Tunnel(Proxy):
    """A company's proxy before the only server; records its requests."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.heads: list[bytes] = []

    def _greeted(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        self.heads.append(client.recv(65536))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return client, b""


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(Account(300), key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(api: Sandbox, authority: trustme.CA) -> Iterator[Proxy]:
    """Start the sandbox's front, with a certificate of a company's own authority."""
    context = context_of(authority.issue_cert("127.0.0.1", HOST))
    with Encrypting(api.url, repeat(context)) as front:
        yield front


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


def test_a_companys_own_authority_is_trusted_if_the_environment_names_it(
    api: Sandbox, https: Proxy, bundle: str, home: Path
) -> None:
    ran = sync(https.at, REQUESTS_CA_BUNDLE=bundle)

    assert ran.returncode == 0, ran.stderr
    assert stored(home / "unify_gtm.duckdb") == shown(api.account)


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_key_is_sent(
    api: Sandbox, https: Proxy
) -> None:
    ran = sync(https.at)

    assert ran.returncode == 1
    assert "certificate could not be verified" in ran.stderr
    assert KEY not in ran.stderr
    assert not api.requests


def test_a_missing_ca_bundle_is_named(https: Proxy) -> None:
    ran = sync(https.at, REQUESTS_CA_BUNDLE="/nowhere/bundle.pem")

    assert ran.returncode == 2, ran.stderr
    assert "/nowhere/bundle.pem" in ran.stderr


def test_a_proxy_of_the_environment_is_used_and_never_sees_the_key(
    api: Sandbox, https: Proxy, bundle: str, home: Path
) -> None:
    proxy = Tunnel(f"https://{https.at}")

    with proxy:
        ran = sync(HOST, REQUESTS_CA_BUNDLE=bundle, HTTPS_PROXY=f"http://{proxy.at}")

    assert ran.returncode == 0, ran.stderr
    assert stored(home / "unify_gtm.duckdb") == shown(api.account)
    assert proxy.heads
    assert all(head.startswith(b"CONNECT ") and KEY.encode() not in head for head in proxy.heads)


def test_an_unreachable_proxy_is_named_as_the_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"

    ran = sync(HOST, HTTPS_PROXY=closed)

    assert ran.returncode == 1
    assert "The proxy did not let the request through: it was refused" in ran.stderr
    assert "HTTPS_PROXY" in ran.stderr


@pytest.mark.parametrize(
    "proxy", ["http://", "http://me:hidden@", "http://me:hidden@host:x", "socks5://me:hidden@host"]
)
def test_an_invalid_proxy_is_refused_at_once_without_its_password(
    proxy: str,
) -> None:
    ran = sync(HOST, HTTPS_PROXY=proxy)

    assert ran.returncode == 2, ran.stderr
    assert "HTTPS_PROXY" in ran.stderr
    assert "hidden" not in ran.stderr
    assert "Trying again" not in ran.stderr


@pytest.mark.parametrize("at", ["exa mple.com", "api.example.com:99999", "*.example.com"])
def test_an_invalid_address_is_refused_before_the_first_request(at: str) -> None:
    ran = sync(at)

    assert ran.returncode == 2, ran.stderr
    assert "base_url" in ran.stderr
    assert "Traceback" not in ran.stderr
