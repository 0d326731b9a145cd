"""Instants: the API's text in, the API's text out, and the marks that arithmetic needs. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))"
)
_MICROSECONDS = 6


def parse_instant(text: str) -> datetime | None:
    """Read an RFC 3339 time as an instant in UTC, cut to microseconds; None for anything else.

    The same on every Python: before 3.11 `datetime.fromisoformat` refuses a time that ends with Z.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        if sign is None and second != "60" and len(fraction or "000000") == _MICROSECONDS:
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        local = datetime.fromisoformat(f"{day}T{minute}:00").replace(tzinfo=timezone.utc)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        # A leap second is written :60; it is the instant after :59.
        within = timedelta(
            seconds=int(second), microseconds=int((fraction or "0")[:6].ljust(6, "0"))
        )
        return local + within - (offset if sign == "+" else -offset)
    except (ValueError, OverflowError):
        return None


def kept_instant(text: str) -> datetime:
    """Read a time that an earlier run stored. Raises ValueError for any other text."""
    instant = parse_instant(text)
    if instant is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    return instant


def rfc3339(instant: datetime) -> str:
    """Write an instant in UTC with microseconds, as in 2026-01-31T08:00:00.000000Z."""
    utc = instant.astimezone(timezone.utc)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
