"""This machine is reached without a proxy, and a connection that fails says why."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme
from commands import command
from conftest import KEY
from raw_server import RawServer, raw_server, response
from ways import NO_NAME_SERVER, broken_way

from unify_source.api.client import Client
from unify_source.common.errors import Unreachable
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.sandbox import Account, Sandbox

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.delenv(spelled, raising=False)


@pytest.fixture
def listener() -> Iterator[RawServer]:
    """Start a proxy that records every request, and refuses it."""
    with raw_server(lambda _, to: to.sendall(response(b"", 503))) as server:
        yield server


def server_time(base_url: str, **given: float) -> None:
    given = {"retry_budget": 0.3, "request_timeout": 5, **given}
    client = Client(checked_settings({"api_key": KEY, "base_url": base_url, **given}))
    client.server_time(ENROLLMENT_LIST)


@contextmanager
def on_loopback(address: str, *, is_http: bool = True) -> Iterator[str]:
    """Answer each connection to a local address with one response, or a mail server's greeting."""
    sent = response({}, Date="Sun, 31 May 2026 09:00:00 GMT") if is_http else b"220 ESMTP\r\n"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address.strip("[]"), 0), family=family) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(65536)
                        client.sendall(sent)

        threading.Thread(target=serve, daemon=True).start()
        yield f"{address}:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost", "LOCALHOST"])
@pytest.mark.parametrize("name", [*PROXIES, *map(str.lower, PROXIES)])
def test_requests_to_this_machine_go_to_no_proxy(
    name: str, address: str, listener: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, listener.url)
    at = "127.0.0.1" if "local" in address.lower() else address
    with on_loopback(at) as here:
        server_time(f"http://{address}:{here.rpartition(':')[2]}")

    assert not listener.asked


def test_sync_and_demo_need_no_proxy(listener: RawServer) -> None:
    with Sandbox(Account(50), key=KEY) as api:
        there = {"UNIFY_API_KEY": KEY, "SOURCES__UNIFY__BASE_URL": api.url}
        ran = command("sync", "--json", **there, HTTP_PROXY=listener.url)
    shown = command("demo", "--enrollments", "50", all_proxy=listener.url)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["enrollments"] == 50
    assert shown.returncode == 0, shown.stderr
    assert not listener.asked


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_proxy_is_asked_for_a_tunnel_and_never_shown_the_key(
    name: str, listener: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, listener.url.replace("//", "//me:hidden@"))

    with pytest.raises(Unreachable, match=r"proxy did not let .* answered HTTP 503") as caught:
        server_time("https://api.example.test")

    heads = [asked.head for asked in listener.asked]
    assert heads
    assert all(head.startswith(b"CONNECT api.example.test:443 ") for head in heads)
    assert not [head for head in heads if KEY.encode() in head]
    assert "hidden" not in str(caught.value)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_refused_connection_is_reported() -> None:
    with pytest.raises(Unreachable, match="it was refused, so nothing listens there"):
        server_time(f"http://127.0.0.1:{closed_port()}")


def test_an_unknown_host_name_is_reported() -> None:
    with pytest.raises(Unreachable, match=r"host name is unknown \(https://nowhere.invalid\)"):
        server_time("https://nowhere.invalid")


def test_a_name_server_that_does_not_answer_is_reported() -> None:
    with (
        broken_way("http://127.0.0.1:9", NO_NAME_SERVER, lambda _: True) as way,
        pytest.raises(Unreachable, match=r"no name server answered \(https://api"),
    ):
        server_time(way)


def test_a_server_without_tls_is_reported() -> None:
    with (
        on_loopback("127.0.0.1", is_http=False) as here,
        pytest.raises(Unreachable, match=r"no TLS connection .* (wrong version number|record)"),
    ):
        server_time(f"https://{here}")


def test_a_certificate_that_cannot_be_verified_says_why() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with suppress(ssl.SSLError):
                        context.wrap_socket(client, server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Unreachable, match=r"could not be verified: .*self.signed|issuer"):
            server_time(f"https://127.0.0.1:{server.getsockname()[1]}")


def test_a_missing_handshake_is_reported_with_the_time_waited() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(Unreachable, match=r"0\.5 seconds"),
    ):
        server_time(f"https://127.0.0.1:{server.getsockname()[1]}", request_timeout=0.5)


def test_a_cut_connection_is_reported() -> None:
    with (
        raw_server(lambda *_: None) as server,
        pytest.raises(Unreachable, match="The connection broke"),
    ):
        server_time(server.url)
