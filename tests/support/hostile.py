"""Servers that break the API's rules, and what a run may print about them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from commands import Ran, command

SECRET = "uk-7Qm3zzTop91x-never-shown"

DAMAGED = bytes(8) + b"DUCK" + b"not what DuckDB wrote" * 1_000
"""A DuckDB file whose checksum is wrong."""


def sync_command(url: str, *words: str, **environment: str) -> Ran:
    return command(
        "sync",
        *words,
        **{
            "UNIFY_API_KEY": SECRET,
            "SOURCES__UNIFY__BASE_URL": url,
            "SOURCES__UNIFY__RETRY_BUDGET": "0.5",
            "SOURCES__UNIFY__PAGE_SIZE": "20",
            **environment,
        },
    )


def assert_no_secret(ran: Ran, home: Path, secret: str = SECRET) -> None:
    assert secret not in ran.stdout + ran.stderr
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def assert_ended(ran: Ran, exit_code: int, *words: str) -> None:
    lines = ran.stderr.splitlines()
    assert ran.returncode == exit_code, ran.stderr
    assert len(lines) <= 10
    assert "Traceback" not in ran.stderr
    assert [line for line in lines if line.startswith("Error: ")]
    assert all(word in ran.stderr for word in words), ran.stderr


@contextmanager
def answering(status: int, body: Any, /, **headers: str) -> Iterator[str]:
    """Serve the same response to every request, and return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            text = json.dumps(body).replace("THE KEY", self.headers["x-api-key"]).encode()
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
