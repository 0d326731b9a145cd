"""Servers for the lane of the warehouses, each a process of its own on a loopback port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

S3_KEYS = {
    "aws_access_key_id": "loader",
    "aws_secret_access_key": "password",
    "region": "us-east-1",
}

# Where the emulator of BigQuery is installed: it wants libraries that the rest does not.
BIGQUERY_ENVIRONMENT = "UNIFY_BIGQUERY_EMULATOR"


def s3_environment(address: str) -> dict[str, str]:
    """Return the environment that a pipeline needs to reach the S3 server."""
    credentials = "DESTINATION__FILESYSTEM__CREDENTIALS"
    return {
        f"{credentials}__AWS_ACCESS_KEY_ID": S3_KEYS["aws_access_key_id"],
        f"{credentials}__AWS_SECRET_ACCESS_KEY": S3_KEYS["aws_secret_access_key"],
        f"{credentials}__REGION_NAME": S3_KEYS["region"],
        f"{credentials}__ENDPOINT_URL": address,
    }


@contextmanager
def s3_running() -> Iterator[str]:
    """Run moto's S3 and yield its address."""
    port = _free_port()
    with _process([sys.executable, "-m", "moto.server", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def clickhouse_running() -> Iterator[tuple[int, int]]:
    """Run ClickHouse's engine and yield its ports: of the native protocol, and of HTTP."""
    front = Path(__file__).with_name("clickhouse.py")
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, str(front), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # That of the first test is gone before the last test, and the engine asks where it is.
            cwd=folder,
        )
        assert process.stdin
        assert process.stdout
        try:
            native, http = process.stdout.readline().split()
            yield int(native), int(http)
        finally:
            process.stdin.close()
            process.wait(30)


@contextmanager
def bigquery_running() -> Iterator[tuple[str, str]]:
    """Run the emulator of BigQuery, and who gives tokens for it; give both addresses."""
    python = Path(os.environ[BIGQUERY_ENVIRONMENT], "bin", "python")
    port = _free_port()
    with tempfile.TemporaryDirectory() as home, _tokens() as tokens:
        environment = {**os.environ, "HOME": home}
        _install_spatial(python, environment)
        ports = ["--rest-port", str(port), "--grpc-port", str(_free_port())]
        words = [str(python.with_name("bqemulator")), "start", *ports]
        with _process(words, port, environment):
            yield f"http://127.0.0.1:{port}", tokens


def _install_spatial(python: Path, environment: dict[str, str]) -> None:
    # The emulator needs this extension of DuckDB, which would be fetched from the network.
    program = (
        "import duckdb, pathlib, duckdb_extension_spatial as found;"
        "file, = pathlib.Path(found.__file__).parent.rglob('*.duckdb_extension');"
        "duckdb.execute(f\"INSTALL '{file}'\")"
    )
    subprocess.run([str(python), "-c", program], env=environment, check=True)


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = {"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}
        body = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _tokens() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tokens) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
        server.shutdown()


@contextmanager
def _process(
    words: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not start: {process.poll()}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
