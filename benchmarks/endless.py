"""Runs `unify-source sync` against servers that never end or send too much, and measures it.

Long rows are also loaded into Delta tables, if `deltalake` is installed, and by three lines of dlt.

    python benchmarks/endless.py [CASE ...]

Prints a Markdown table: seconds, peak memory of the process, exit code and the first line of its
error. Fails if a case exits with another code than it should, without a message, or with more than
700 MB.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from functools import cache
from importlib.util import find_spec
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
Answer = Callable[[dict[str, str]], Iterator[bytes]]


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


def long_names() -> Iterator[bytes]:
    """Yield pages of sequences with names of 150 kB, and a new cursor each time."""
    number = next(NUMBERS)
    rows = (b'{"id":"%d-%d","name":"%b"}' % (number, n, b"n" * 150_000) for n in range(100))
    body = b'{"enrollments":[],"sequences":[%b],"next_cursor":"c%d"}' % (b",".join(rows), number)
    yield response(body, Date=formatdate(usegmt=True))


def deep(levels: int) -> Parts:
    """Return a page with a row that is nested so deeply."""
    nested = b"[" * levels + b"]" * levels
    return lambda: iter([page(b'{"id":"e","updated_at":"2026-01-31T08:00:00Z","x":%b}' % nested)])


def wide(rows: int, length: int) -> Answer:
    """Return what answers requests for a list of rows, a minute apart, with a long text in each."""
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    times = [f"{first + timedelta(minutes=n):%Y-%m-%dT%H:%M:%S}.000000Z" for n in range(rows)]
    text = base64.b64encode(random.Random(1).randbytes(length)).decode()

    def answer(query: dict[str, str]) -> Iterator[bytes]:
        low, high = query.get("updated_after", ""), query.get("updated_before", "9")
        inside = [n for n, at in enumerate(times) if low <= at <= high]
        begin, end = (int(query.get("cursor", "0")) + more for more in (0, int(query["limit"])))
        items = [
            {"id": f"e{n}", "updated_at": times[n], "notes": text[n:][:length]}
            for n in inside[begin:end]
        ]
        cursor = b'"%d"' % end if end < len(inside) else b"null"
        yield page(json.dumps(items)[1:-1].encode(), cursor)

    return answer


CASES: dict[str, Parts] = {
    "a body of a gigabyte": lambda: at_once(OK + b"Content-Length: 1073741824\r\n\r\n", b" " * MB),
    "chunks without end": lambda: at_once(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + b" " * MB + b"\r\n"
    ),
    "a gzip bomb of a gigabyte": lambda: iter([response(bomb(), Content_Encoding="gzip")]),
    "500 levels": deep(500),
    "5,000 levels": deep(5_000),
    "100,000 levels": deep(100_000),
    "a body that trickles": lambda: every_tenth_second(OK + b"Content-Length: 9999\r\n\r\n", b" "),
    "headers that trickle": lambda: every_tenth_second(OK + b"A: ", b"a"),
    "headers without end": lambda: at_once(OK, b"A: a\r\n"),
    "100 Continue forever": lambda: at_once(b"", CONTINUE),
    "the same rows forever": endless_rows,
    "empty pages forever": lambda: iter([page(cursor=b'"c%d"' % next(NUMBERS))]),
    "a cursor of a megabyte": lambda: iter([page(cursor=b'"%b"' % (b"c" * MB))]),
}

ENDLESS_SEQUENCES = "sequences forever"
# These are to be loaded.
ROWS: dict[str, Answer] = {
    "600 rows of 250 kB": wide(600, 250_000),
    "600 rows of 500 kB": wide(600, 500_000),
    "40 rows of 4 MB": wide(40, 4_000_000),
}
SYNC = ["-m", "unify_source", "sync"]
DLT = """
import dlt
from unify_source import unify_source

pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
pipeline.run(unify_source())
print("loaded")
"""
INTO_DELTA = " into Delta"
WAYS = {"": SYNC, INTO_DELTA: [*SYNC, "--destination", "filesystem"], " by dlt": ["-c", DLT]}
WIDE = {rows + how: (ROWS[rows], WAYS[how]) for how in WAYS for rows in ROWS}


def run(name: str) -> tuple[float, float, int, str]:
    """Sync against one server; return seconds, peak MB, exit code and the first line of output."""
    rows, how = WIDE.get(name, (None, SYNC))

    def answer(request: Asked, to: socket.socket) -> None:
        # The clock is requested first, with a page of one row: without it, no list would be read.
        is_clock = request.query.get("limit") == "1" and "updated_before" not in request.query
        if name == ENDLESS_SEQUENCES:
            listed = long_names() if request.path.endswith("/sequences") else iter([page()])
        else:
            listed = rows(request.query) if rows else CASES[name]()
        for part in iter([page()]) if is_clock else listed:
            to.sendall(part)

    with raw_server(answer) as server, tempfile.TemporaryDirectory() as folder:
        timeout = "60" if rows else "1"
        settings = {"BASE_URL": server.url, "REQUEST_TIMEOUT": timeout, "RETRY_BUDGET": "5"}
        given = {f"SOURCES__UNIFY__{key}": value for key, value in settings.items()}
        given["DESTINATION__FILESYSTEM__BUCKET_URL"] = str(Path(folder, "lake"))
        given["DLT_DATA_DIR"] = folder
        began = time.monotonic()
        with Path(folder, "output").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, *how],
                cwd=folder,
                env={**os.environ, **given, "UNIFY_API_KEY": "key", "PYTHONPATH": str(HERE.parent)},
                stdout=output,
                stderr=output,
            )
            peak = peak_while_running(process)
            output.seek(0)
            lines = output.read().splitlines()
    first = next(
        (line for line in lines if re.search("^Error: |quarantine|loaded|larger", line)), ""
    )
    return time.monotonic() - began, peak, process.returncode, first


def peak_while_running(process: subprocess.Popen[bytes]) -> float:
    """Return the peak memory of a process in MB, from Linux's own count."""
    # What the system reports at its end includes the memory of this process, which started it.
    peak = 0
    while process.poll() is None:
        with suppress(OSError, TypeError):
            status = Path("/proc", str(process.pid), "status").read_text()
            peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
        time.sleep(0.02)
    return peak / 1024


def main() -> None:
    """Print the table."""
    print("| case | seconds | peak MB | exit | first line |\n|---|---:|---:|---:|---|")
    broken = []
    for name in sys.argv[1:] or [*CASES, ENDLESS_SEQUENCES, *WIDE]:
        if name.endswith(INTO_DELTA) and not find_spec("deltalake"):
            print(f"| {name} | | | | deltalake is not installed |")
            continue
        seconds, peak, code, line = run(name)
        print(f"| {name} | {seconds:.1f} | {peak:.0f} | {code} | {line} |", flush=True)
        expected = (0,) if name in WIDE or name == ENDLESS_SEQUENCES else (1, 3)
        if code not in expected or not line or peak > MOST_MB:
            broken.append(name)
    if broken:
        sys.exit(f"Beyond the limits: {', '.join(broken)}.")


if __name__ == "__main__":
    main()
