"""ClickHouse's engine behind the least of its two protocols that dlt's drivers speak.

The engine is chdb, which runs in a process: this one, started as a script. The native protocol
takes statements and answers them (`clickhouse-driver`), the HTTP one takes files as well
(`clickhouse-connect`). There are no users, no TLS and no cluster here.
"""

from __future__ import annotations

import gzip
import os
import socketserver
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

DATABASE = "unify"
# The newest revision before the protocol's blocks began to differ from the format Native.
REVISION = 54429
HELLO, QUERY, DATA, PING = 0, 1, 2, 4
SERVER_DATA, SERVER_EXCEPTION, SERVER_PONG, SERVER_END = 1, 2, 4, 5
# Field 1: no overflow. Field 2: bucket -1. No more fields.
BLOCK_INFO = b"\x01\x00\x02" + struct.pack("<i", -1) + b"\x00"
GZIP = b"\x1f\x8b"
ONE_BLOCK = "SELECT * FROM ({}) ORDER BY rowNumberInAllBlocks()"


class Engine:
    """chdb, one statement at a time, with every statement kept for who wants to count them."""

    def __init__(self, folder: str) -> None:
        self._turn = threading.Lock()
        self._connection = chdb.connect(folder)
        self.statements: list[str] = []
        database = f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic"
        # Of several threads each may answer with a block of its own, and drivers get one.
        for statement in (database, f"USE {DATABASE}", "SET max_threads = 1"):
            self._connection.query(statement)

    def ask(self, statement: str, body: bytes = b"", answer_in: str = "Native") -> bytes:
        """Run a statement, with the file that it inserts if there is one."""
        with self._turn, tempfile.NamedTemporaryFile() as file:
            self.statements.append(statement)
            if body:
                file.write(gzip.decompress(body) if body.startswith(GZIP) else body)
                file.flush()
                table, _, kind = statement.rpartition(" FORMAT ")
                statement = f"{table} FROM INFILE '{file.name}' FORMAT {kind}"
            answer: bytes = self._connection.query(statement, answer_in).bytes()
            return answer


class _Native(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        answers: dict[int, Callable[[], None]] = {HELLO: self._hello, QUERY: self._query}
        while (packet := self.rfile.read(1)) and packet[0] in (*answers, PING):
            answers.get(packet[0], self._pong)()
            self.wfile.flush()

    def _hello(self) -> None:
        _text(self.rfile)
        for _ in range(3):
            _number(self.rfile)
        for _ in range(3):
            _text(self.rfile)
        versions = _varint(26) + _varint(9) + _varint(REVISION)
        names = _string("UTC") + _string("chdb") + _varint(1)
        self.wfile.write(_varint(HELLO) + _string("ClickHouse") + versions + names)

    def _pong(self) -> None:
        self.wfile.write(_varint(SERVER_PONG))

    def _query(self) -> None:
        statement = self._read_query()
        engine, blocks = self.server.engine, []
        try:
            if statement.lstrip().startswith("SELECT"):
                blocks.append(_header(engine.ask(f"DESCRIBE ({statement})", b"", "TabSeparated")))
                statement = ONE_BLOCK.format(statement)
            blocks.append(engine.ask(statement))
        except Exception as error:  # noqa: BLE001 - every failure is the client's to see
            self.wfile.write(_exception(error))
            return
        for block in filter(None, blocks):
            self.wfile.write(_varint(SERVER_DATA) + _string("") + BLOCK_INFO + block)
        self.wfile.write(_varint(SERVER_END))

    def _read_query(self) -> str:
        _text(self.rfile)
        self._skip_client()
        while _text(self.rfile):
            _number(self.rfile)
            _text(self.rfile)
        for _ in range(2):
            _number(self.rfile)
        statement = _text(self.rfile)
        # One block without columns says that no tables come along.
        _number(self.rfile)
        _text(self.rfile)
        self.rfile.read(len(BLOCK_INFO) + 2)
        return statement

    def _skip_client(self) -> None:
        self.rfile.read(1)
        for _ in range(3):
            _text(self.rfile)
        self.rfile.read(1)
        for _ in range(3):
            _text(self.rfile)
        for _ in range(3):
            _number(self.rfile)
        _text(self.rfile)
        _number(self.rfile)


class _Http(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n")

    def do_POST(self) -> None:
        parameters = dict(parse_qsl(urlsplit(self.path).query))
        body = self._body()
        statement = parameters.get("query") or body.decode()
        try:
            inserted = body if "query" in parameters else b""
            answer = self.server.engine.ask(statement, inserted, "TabSeparated")
        except Exception as error:  # noqa: BLE001 - every failure is the client's to see
            self._answer(500, str(error).encode())
            return
        self._answer(200, answer)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _header(described: bytes) -> bytes:
    """Return the block without rows that a server sends first, and drivers take the names from."""
    columns = [line.split("\t")[:2] for line in described.decode().splitlines()]
    names = b"".join(_string(name) + _string(kind) for name, kind in columns)
    return _varint(len(columns)) + _varint(0) + names


def _number(file: BufferedIOBase) -> int:
    number = shift = 0
    while (byte := file.read(1)[0]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
    return number | byte << shift


def _text(file: BufferedIOBase) -> str:
    return file.read(_number(file)).decode()


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded


def _exception(error: Exception) -> bytes:
    message = str(error)
    code = message.removeprefix("Code: ").partition(".")[0]
    number = int(code) if code.isdigit() else 1000
    parts = [_string("DB::Exception"), _string(message), _string("")]
    return _varint(SERVER_EXCEPTION) + struct.pack("<i", number) + b"".join(parts) + b"\x00"


class _NativeServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve(folder: str) -> None:
    """Serve the tables in a folder until standard input ends; the first line says the ports."""
    native = _NativeServer(("127.0.0.1", 0), _Native)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Http)
    native.engine = http.engine = Engine(folder)  # type: ignore[attr-defined]
    for server in (native, http):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{native.server_address[1]} {http.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    # The engine has threads of its own, whose work no longer matters.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
