"""Instants as whole microseconds since 1970, and how RFC 3339 and HTTP write them."""

import re
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_LEAP_SECOND = 60
_IN_AN_HOUR = [f"{second // 60:02}:{second % 60:02}" for second in range(3600)]


def micros(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def http_date(moment: datetime) -> str:
    """Return a UTC time as RFC 7231 writes it: whole seconds, rounded down."""
    # HTTP has no fractions. A server that rounded up would date its response after rows that are
    # still to come.
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


def stamp(us: int) -> str:
    """Return microseconds as RFC 3339 in UTC with 0, 3 or 6 fractional digits, as needed."""
    seconds, fraction = divmod(us, SECOND)
    hour, second = divmod(seconds, 3600)
    text = _hour(hour) + _IN_AN_HOUR[second]
    if not fraction:
        return text + "Z"
    if fraction % 1000:
        return f"{text}.{fraction:06}Z"
    return f"{text}.{fraction // 1000:03}Z"


def parse(text: object, *, up: bool = False) -> int | None:
    """Return an RFC 3339 time in microseconds, or None for anything else.

    Digits beyond microseconds round down, or up with `up` (for a lower bound).
    """
    match = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if not match:
        return None
    day, clock, second, fraction, sign, hours, minutes = match.groups()
    # A leap second is valid RFC 3339, but no datetime can represent it.
    if int(second) > _LEAP_SECOND:
        return None
    try:
        start = datetime.fromisoformat(f"{day}T{clock}:00+00:00")
    except ValueError:
        return None
    digits = (fraction or "").ljust(6, "0")
    # An instant of seven digits is between two microseconds: as a lower bound, it excludes the
    # one below.
    beyond = up and digits[6:].strip("0") != ""
    offset = int(f"{sign}1") * (int(hours) * 60 + int(minutes)) * MINUTE if sign else 0
    return micros(start) + int(second) * SECOND + int(digits[:6]) + beyond - offset


@lru_cache(maxsize=16_384)
def _hour(number: int) -> str:
    return (EPOCH + timedelta(hours=number)).isoformat()[:14]
