"""Every valid form of the `Date` header is read as the same instant; others are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from conftest import KEY
from raw_server import raw_server, response

from unify_source.api.client import Client
from unify_source.common.errors import BrokenPage
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings

AT = datetime(2026, 5, 31, 9, 0, 7, tzinfo=timezone.utc)

READABLE = {
    "Sun, 31 May 2026 09:00:07 GMT": AT,
    "Sun, 31 May 2026 09:00:07 UT": AT,
    "Sun, 31 May 2026 09:00:07 UTC": AT,
    "Sun, 31 May 2026 09:00:07 -0000": AT,
    "Sun, 31 May 2026 09:00:07 +0000": AT,
    "Sun, 31 May 2026 10:00:07 +0100": AT,
    "Sun, 31 May 2026 03:30:07 -0530": AT,
    "Mon, 01 Jun 2026 00:00:07 +1500": AT,
    "sun, 31 may 2026 09:00:07 gmt": AT,
    "31 May 2026 09:00:07 GMT": AT,
    "  Sun, 31 May 2026 09:00:07 GMT  ": AT,
    "Sunday, 31-May-26 09:00:07 GMT": AT,
    "Sunday, 31-May-2026 09:00:07 GMT": AT,
    "Sun May 31 09:00:07 2026": AT,
    "Wed May  6 09:00:07 2026": AT.replace(day=6),
    "Sun, 31 May 2026 08:59:60 GMT": AT.replace(second=0),
    "Thu, 31 Dec 9998 23:59:59 GMT": datetime(9998, 12, 31, 23, 59, 59, tzinfo=timezone.utc),
    "Sunday, 31-May-70 09:00:07 GMT": AT.replace(year=1970),
    "Sunday, 31-May-69 09:00:07 GMT": AT.replace(year=2069),
    "Sun, 31 May 2026 09:00:07 GMT, Sun, 31 May 2026 09:00:07 GMT": AT,
    "Sun, 31 May 2026 09:10:08 GMT, Sunday, 31-May-26 09:00:07 GMT": AT,
}
UNREADABLE = [
    None,
    "",
    "now",
    "2026-05-31T09:00:07Z",
    "1780218007",
    "Sun, 31 May 2026 09:00:07",
    "Sun, 31 May 2026 09:00:07 CEST",
    "Sun, 31 Mai 2026 09:00:07 GMT",
    "Sun, 31 Jun 2026 09:00:07 GMT",
    "Sun, 31 May 2026 25:00:07 GMT",
    "Sun, 31 May 2026 09:00:61 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 +0100",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -0100",
    "Sun, 31 May 20260 09:00:07 GMT",
    "Sun, 31 May 2026 09:00:07 GMT, Sun, 31 May 2026 09:00:07 CEST",
    "Sun, 31 May 2026 09:00:07 GMT, ",
    "x" * 5_000,
]


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Move this machine into another time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def server_time(date: str | None) -> datetime:
    headers: Any = {} if date is None else {"Date": date}
    with raw_server(lambda _, to: to.sendall(response({}, **headers))) as server:
        given = {"api_key": KEY, "base_url": server.url, "retry_budget": 0.01}
        return Client(checked_settings(given)).server_time(ENROLLMENT_LIST)


def test_every_form_of_the_date_header_is_the_same_instant_in_every_zone(zone: str) -> None:
    assert zone
    assert {text: server_time(text) for text in READABLE} == READABLE


@pytest.mark.parametrize("text", UNREADABLE)
def test_any_other_date_header_is_refused_in_a_sentence(text: str | None) -> None:
    with pytest.raises(BrokenPage, match="no readable Date header") as caught:
        server_time(text)

    assert len(str(caught.value)) < 400
