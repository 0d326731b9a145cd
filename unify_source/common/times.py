"""Instants: parsed from the API's text or a person's, and written as text. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

import pendulum

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?![\d-])", re.ASCII)


def parse_instant(text: str) -> datetime | None:
    """Read an RFC 3339 time as an instant in UTC, cut to microseconds; None for anything else.

    The same on every Python: before 3.11 `datetime.fromisoformat` refuses a time that ends with Z.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        digits = (fraction or "")[:6].ljust(6, "0")
        if sign is None and second != "60":
            return datetime.fromisoformat(f"{day}T{minute}:{second}.{digits}+00:00")
        local = datetime.fromisoformat(f"{day}T{minute}:00.{digits}+00:00")
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        # A leap second is written :60; it is the instant after :59.
        return local + timedelta(seconds=int(second)) - (offset if sign == "+" else -offset)
    except (ValueError, OverflowError):
        return None


def is_beyond_years(text: str) -> bool:
    """Tell whether a text is an RFC 3339 time that lies before the year 1 or after 9999 in UTC.

    Sentinels do, such as 9999-12-31T23:59:59-05:00: they are valid, and no database stores them.
    """
    # The calendar repeats every 400 years, so these years have the same days.
    nearer = {"0000": "2000", "0001": "2001", "9999": "1999"}.get(text[:4])
    is_time = nearer is not None and parse_instant(nearer + text[4:]) is not None
    return is_time and parse_instant(text) is None


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


def parse_time(name: str, value: str | date | datetime) -> datetime:
    """Read an RFC 3339 time or a date as an instant in UTC; a date is midnight, no offset is UTC.

    Raises ConfigurationError, by name, for anything else.
    """
    return _instant(name, value, time.min)


def read_start(name: str, value: str | date | datetime) -> datetime:
    """Read the time to load from. Raises ConfigurationError for one before 1970."""
    start = parse_time(name, value)
    if start < EPOCH:
        raise ConfigurationError(
            f"is {shown(value)}, which is before 1970.",
            "Leave it out to load everything.",
            setting=name,
        )
    return start


def parse_range(
    start: str | date | datetime, end: str | date | datetime | None
) -> tuple[datetime, datetime | None]:
    """Read the ends of a range, the second None where it is open.

    A date as the second is that whole day, to its last microsecond in UTC. Raises
    ConfigurationError for anything but a time, and if the start is later than the end.
    """
    since = parse_time("start", start)
    until = None if end is None else _instant("end", end, time.max)
    if until and since > until:
        raise ConfigurationError(
            f"is {since}, which is later than the end, {until}.", "Swap them.", setting="start"
        )
    return since, until


def _instant(name: str, value: str | date | datetime, of_the_day: time) -> datetime:
    parsed = value if isinstance(value, date) else _parsed(str(value).strip())
    if isinstance(parsed, datetime):
        return _in_utc(name, value, parsed)
    if isinstance(parsed, date):
        return datetime.combine(parsed, of_the_day, timezone.utc)
    raise ConfigurationError(
        f"is {shown(value)}, which is not a time.",
        "Write a date such as 2026-01-31, or a time such as 2026-01-31T08:00:00+01:00.",
        setting=name,
    )


def _parsed(text: str) -> object:
    # pendulum reads a month as its first day, an hour as today's, and "now" as a time.
    if not _DAY.match(text):
        return None
    try:
        return pendulum.parse(text, exact=True)
    except ValueError:
        return None


def _in_utc(name: str, value: object, parsed: datetime) -> datetime:
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
    try:
        return EPOCH + (aware - EPOCH)
    except OverflowError:
        raise ConfigurationError(
            f"is {shown(value)}, which in UTC is not in the years 1 to 9999.",
            "Write a time between them, such as 2026-01-31T08:00:00+01:00.",
            setting=name,
        ) from None


def aware(at: datetime) -> datetime:
    """Return an instant in UTC; destinations return instants of UTC without a zone."""
    return at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
