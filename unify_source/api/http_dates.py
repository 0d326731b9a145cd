"""Parses HTTP dates, in each form that servers write, as instants in UTC. Pure.

The standard library reads a date without a zone, or with -0000, as this machine's local time, year
1 as 2001, and an unknown zone as none.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_ZONE = r"(?P<zone>GMT|UTC?|Z|[+-]\d{4})"
_FORMS = [
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        # RFC 1123: Sun, 06 Nov 1994 08:49:37 GMT
        rf"(?:[a-z]+, *)?(?P<day>\d\d?) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_CLOCK} {_ZONE}",
        # RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        rf"[a-z]+, (?P<day>\d\d?)-(?P<month>[a-z]{{3}})-(?P<year>\d\d|\d{{4}}) {_CLOCK} {_ZONE}",
        # asctime: Sun Nov  6 08:49:37 1994
        rf"[a-z]+ (?P<month>[a-z]{{3}}) +(?P<day>\d\d?) {_CLOCK} (?P<year>\d{{4}})",
    )
]
# Repeated headers are joined by a comma, and a date contains one too, after its weekday.
_BETWEEN_TWO = re.compile(r", *(?=[a-z]+[, ])", re.ASCII | re.IGNORECASE)
# A clock that shows any other year is wrong, and arithmetic with year 9999 overflows a datetime.
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_LEAP_SECOND = 60


def http_date(text: str) -> datetime | None:
    """Read an HTTP date; None for anything else, and for years before 1970 and after 9998.

    Some proxies add a date of their own. Of several, this is the earliest: the window that it
    closes is closed by each of the clocks.
    """
    dates = [_date(each) for each in _BETWEEN_TWO.split(text)]
    return min((date for date in dates if date), default=None) if all(dates) else None


def _date(text: str) -> datetime | None:
    match = next(filter(None, (form.fullmatch(text.strip()) for form in _FORMS)), None)
    if match is None or match["month"].lower() not in _MONTHS:
        return None
    day, hour, minute, second = (int(match[each]) for each in ("day", "hour", "minute", "second"))
    month = _MONTHS.index(match["month"].lower()) + 1
    zone = match.groupdict().get("zone") or "GMT"
    try:
        start = datetime(_year(match["year"]), month, day, hour, minute, tzinfo=timezone.utc)
        instant = start + timedelta(seconds=second) - _offset(zone)
    except (ValueError, OverflowError):
        return None
    is_sane = second <= _LEAP_SECOND and _FIRST_YEAR <= instant.year <= _LAST_YEAR
    return instant if is_sane else None


def _year(digits: str) -> int:
    if len(digits) == len("2026"):
        return int(digits)
    # RFC 850 has two digits: no server's clock shows a time before 1970.
    return int(digits) + (1900 if int(digits) >= _FIRST_YEAR % 100 else 2000)


def _offset(zone: str) -> timedelta:
    if zone[0] not in "+-":
        return timedelta()
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return -offset if zone[0] == "-" else offset
