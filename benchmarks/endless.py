"""Runs `unify-source sync` against servers that never end, and measures how it gives up.

    python benchmarks/endless.py [CASE ...]

Prints a Markdown table: seconds, peak memory of the process, exit code and the first line of its
error. Fails if a case exits with 0, without a message, or with more than 700 MB.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import cache
from itertools import count
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "support"))
from raw_server import Asked, at_once, every_tenth_second, raw_server, response  # noqa: E402 - the server of the tests

MB = 1 << 20
MOST_MB = 700
OK = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NUMBERS = count()
Parts = Callable[[], Iterator[bytes]]


@cache
def bomb() -> bytes:
    """Return a gigabyte, compressed."""
    # In pieces: a child's peak memory includes that of the process that starts it.
    packing = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    return b"".join([*(packing.compress(bytes(MB)) for _ in range(1024)), packing.flush()])


def page(rows: bytes = b"", cursor: bytes = b"null") -> bytes:
    """Return a page with these rows."""
    body = b'{"enrollments":[%b],"sequences":[],"next_cursor":%b}' % (rows, cursor)
    return response(body, Date=formatdate(usegmt=True))


def endless_rows() -> Iterator[bytes]:
    """Yield pages with the same row, and a new cursor each time."""
    number = next(NUMBERS)
    row = b'{"id":"e","updated_at":"2026-01-31T08:00:00Z"}'
    yield page(b",".join([row] * 100), b'"c%d"' % number)


def deep() -> Iterator[bytes]:
    """Yield a page with a row that is nested too deeply for any parser."""
    nested = b"[" * 100_000 + b"]" * 100_000
    yield page(b'{"id":"e","updated_at":"2026-01-31T08:00:00Z","x":%b}' % nested)


CASES: dict[str, Parts] = {
    "a body of a gigabyte": lambda: at_once(OK + b"Content-Length: 1073741824\r\n\r\n", b" " * MB),
    "chunks without end": lambda: at_once(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + b" " * MB + b"\r\n"
    ),
    "a gzip bomb of a gigabyte": lambda: iter([response(bomb(), Content_Encoding="gzip")]),
    "100,000 levels": deep,
    "a body that trickles": lambda: every_tenth_second(OK + b"Content-Length: 9999\r\n\r\n", b" "),
    "headers that trickle": lambda: every_tenth_second(OK + b"A: ", b"a"),
    "headers without end": lambda: at_once(OK, b"A: a\r\n"),
    "100 Continue forever": lambda: at_once(b"", CONTINUE),
    "the same rows forever": endless_rows,
    "empty pages forever": lambda: iter([page(cursor=b'"c%d"' % next(NUMBERS))]),
    "a cursor of a megabyte": lambda: iter([page(cursor=b'"%b"' % (b"c" * MB))]),
}


def run(parts: Parts) -> tuple[float, float, int, str]:
    """Sync against one server; return seconds, peak MB, exit code and the first line of output."""

    def answer(request: Asked, to: socket.socket) -> None:
        # The clock is requested first, with a page of one row: without it, no list would be read.
        is_clock = request.query.get("limit") == "1" and "updated_before" not in request.query
        for part in iter([page()]) if is_clock else parts():
            to.sendall(part)

    with raw_server(answer) as server, tempfile.TemporaryDirectory() as folder:
        settings = {"BASE_URL": server.url, "REQUEST_TIMEOUT": "1", "RETRY_BUDGET": "5"}
        given = {f"SOURCES__UNIFY__{name}": value for name, value in settings.items()}
        began = time.monotonic()
        with Path(folder, "output").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "unify_source", "sync"],
                cwd=folder,
                env={**os.environ, **given, "UNIFY_API_KEY": "key", "PYTHONPATH": str(HERE.parent)},
                stdout=output,
                stderr=output,
            )
            _, status, used = os.wait4(process.pid, 0)
            output.seek(0)
            lines = output.read().splitlines()
    peak = used.ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    first = next((line for line in lines if re.search("^Error: |quarantine", line)), "")
    return time.monotonic() - began, peak, os.waitstatus_to_exitcode(status), first


def main() -> None:
    """Print the table."""
    print("| case | seconds | peak MB | exit | first line |\n|---|---:|---:|---:|---|")
    broken = []
    for name in sys.argv[1:] or CASES:
        seconds, peak, code, line = run(CASES[name])
        print(f"| {name} | {seconds:.1f} | {peak:.0f} | {code} | {line} |", flush=True)
        if code not in (1, 3) or not line or peak > MOST_MB:
            broken.append(name)
    if broken:
        sys.exit(f"Beyond the limits: {', '.join(broken)}.")


if __name__ == "__main__":
    main()
