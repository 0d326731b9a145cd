"""Asking a local API as a client does, with an account whose clock moves by requests alone."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import requests

from unify_source.sandbox import Account, Clock, Sandbox

START = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)
LIST = "/sequences/v1/enrollments"
SEQUENCES = "/sequences/v1/sequences"
Row = dict[str, Any]


def account(size: int = 1000, **options: Any) -> Account:
    return Account(size, clock=Clock(START, tick=timedelta(milliseconds=10)), **options)


def ask(sandbox: Sandbox, path: str = LIST, **query: Any) -> requests.Response:
    headers = {"x-api-key": sandbox.key}
    return requests.get(sandbox.url + path, query, headers=headers, timeout=10)


def pages(sandbox: Sandbox, path: str = LIST, **query: Any) -> Iterator[list[Row]]:
    while True:
        page = ask(sandbox, path, **query).json()
        yield page[path.rpartition("/")[2]]
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def listed(sandbox: Sandbox, path: str = LIST, **query: Any) -> list[Row]:
    return [row for page in pages(sandbox, path, **{"limit": 100, **query}) for row in page]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
