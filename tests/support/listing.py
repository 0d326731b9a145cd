"""A list of rows served as the API would, for tests that say which rows there are."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from standing import START, account

from unify_source.common.times import parse_instant

Row = dict[str, Any]


def instant(row: Row) -> datetime:
    updated = parse_instant(row["updated_at"])
    assert updated
    return updated


@contextmanager
def listing(*pages: Sequence[Row]) -> Iterator[str]:
    """Serve these pages, each without the rows beyond the bounds, and return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not urlsplit(self.path).path.endswith("/enrollments"):
                self.send_error(404)
                return
            asked = dict(parse_qsl(urlsplit(self.path).query))
            low = parse_instant(asked.get("updated_after", "1970-01-01T00:00:00Z"))
            high = parse_instant(asked.get("updated_before", "2100-01-01T00:00:00Z"))
            assert low
            assert high
            number = int(asked.get("cursor", "0"))
            rows = [row for row in pages[number] if low <= instant(row) <= high]
            following = str(number + 1) if number + 1 < len(pages) else None
            body = json.dumps({"enrollments": rows, "next_cursor": following}).encode()
            self.send_response_only(200)
            self.send_header("Date", format_datetime(START, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@cache
def _row() -> Row:
    return account(1).rows()[0]


def version(key: str, second: str, **values: Any) -> Row:
    row = copy.deepcopy(_row())
    return {**row, "id": key, "updated_at": f"2026-05-31T08:00:{second}", **values}


SECONDS = ["05Z", "05.20Z", "05.900Z"]
