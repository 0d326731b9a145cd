"""Numbers and names: what a run may be told, and its limits, checked before the first request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pendulum
import requests

from unify_source.errors import ConfigurationError

BASE_URL = "https://api.unifygtm.com"
STATUSES = ("DRAFT", "IN_PROGRESS", "FINISHED")
ID_FILTERS = ("sequence_id", "person_id", "mailbox_id", "enrolled_by_play_id")
KEY_ENVIRONMENT = "UNIFY_API_KEY"
DELTA, ICEBERG, PARQUET = TABLE_FORMATS = ("delta", "iceberg", "parquet")

_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_DAY_SECONDS = 86_400
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?![\d-])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": _DAY_SECONDS}


@dataclass(frozen=True)
class Settings:
    """What one run was told; every value has been checked (see `checked_settings`)."""

    api_key: str = field(repr=False)
    base_url: str = BASE_URL
    filters: tuple[tuple[str, str], ...] = ()
    start: datetime | None = None
    lookback: timedelta = timedelta(minutes=10)
    page_size: int = 100
    workers: int = 8
    requests_per_5min: int = 100_000
    window_rows: int = 200_000
    request_timeout: float = 60.0
    """Seconds to connect, and between two bytes; a whole response may take four times as long."""
    retry_budget: float = 900.0
    table_format: str = DELTA

    def without_filters(self) -> Settings:
        """Return the same settings for all rows, whatever was filtered."""
        return replace(self, filters=())


def checked_settings(given: Mapping[str, Any]) -> Settings:
    """Make settings of what was given, None meaning "not given", or refuse by name.

    Raises ConfigurationError for a value that cannot be.
    """
    known = {name: value for name, value in given.items() if value is not None}
    filters = [(name, _uuid(name, known.pop(name))) for name in ID_FILTERS if name in known]
    filters += [("status", status) for status in _statuses(known.pop("status", ()))]
    checks: dict[str, Callable[[str, Any], Any]] = {
        "base_url": _base_url,
        "start": _start,
        "lookback": _duration,
        "page_size": lambda name, value: _integer(name, value, 1, 100),
        "workers": lambda name, value: _integer(name, value, 1, 64),
        "requests_per_5min": lambda name, value: _integer(name, value, 1, 100_000_000),
        "window_rows": lambda name, value: _integer(name, value, 100, 10_000_000),
        "request_timeout": _seconds,
        "retry_budget": _seconds,
        "table_format": _table_format,
    }
    checked: dict[str, Any] = {
        name: check(name, known[name]) for name, check in checks.items() if name in known
    }
    return Settings(api_key=_key(known.get("api_key")), filters=tuple(filters), **checked)


def parse_time(name: str, value: str | date | datetime) -> datetime:
    """Read an RFC 3339 time or a date as an instant in UTC; a date is midnight, no offset is UTC.

    Raises ConfigurationError, by name, for anything else.
    """
    return _instant(name, value, time.min)


def _instant(name: str, value: str | date | datetime, of_the_day: time) -> datetime:
    parsed = value if isinstance(value, date) else _parsed(str(value).strip())
    if isinstance(parsed, datetime):
        return _in_utc(name, value, parsed)
    if isinstance(parsed, date):
        return datetime.combine(parsed, of_the_day, timezone.utc)
    raise ConfigurationError(
        f"{name} is {str(value)!r}, which is not a time.",
        "Write a date such as 2026-01-31, or a time such as 2026-01-31T08:00:00+01:00.",
    )


def _parsed(text: str) -> object:
    # pendulum takes a month for its first day, an hour for today's, and "now" for a time.
    if not _DAY.match(text):
        return None
    try:
        return pendulum.parse(text, exact=True)
    except ValueError:
        return None


def _start(name: str, value: str | date) -> datetime:
    start = parse_time(name, value)
    if start < _EPOCH:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which is before 1970.", "Leave it out to load everything."
        )
    return start


def _in_utc(name: str, value: object, parsed: datetime) -> datetime:
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
    try:
        return _EPOCH + (aware - _EPOCH)
    except OverflowError:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which in UTC is not in the years 1 to 9999.",
            "Write a time between them, such as 2026-01-31T08:00:00+01:00.",
        ) from None


def parse_range(start: str | date, end: str | date | None) -> tuple[datetime, datetime | None]:
    """Read the ends of a range, the second None where it is open.

    A date as the second is that whole day, to its last microsecond in UTC. Raises
    ConfigurationError for what is not a time, an empty text too, and for ends the wrong way round.
    """
    since = parse_time("--from", start)
    until = None if end is None else _instant("--to", end, time.max)
    if until and since > until:
        raise ConfigurationError(f"--from, {since}, is later than --to, {until}.", "Swap them.")
    return since, until


def _key(value: object) -> str:
    key = str(value or "").strip()
    if not key:
        raise ConfigurationError(
            "There is no API key.",
            f"Set the environment variable {KEY_ENVIRONMENT}, or api_key under [sources.unify] in"
            " .dlt/secrets.toml; Unify shows keys under Settings, Developers.",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "api_key holds a blank or a character that no HTTP header can carry.",
            "Copy the key again, without quotes and line breaks.",
        )
    return key


def _base_url(name: str, value: object) -> str:
    url = str(value).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        requests.Request("GET", url).prepare()
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{name} is {_without_password(url)!r}, which is no address of an API.",
            f"Write it like {BASE_URL}.",
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            f"{name} carries a user name or a password.", "Leave them out; the key is enough."
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigurationError(
            f"{name} is {url!r}: over plain http the key could be read on the way.",
            "Use https; http is for this machine only (127.0.0.1, ::1, localhost).",
        )
    return url


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//…@", url)


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _uuid(name: str, value: object) -> str:
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which is not an id of the API.",
            "Ids look like 3c90c3cc-0d44-4b50-8888-8dd25736052a.",
        ) from None


def _statuses(value: str | Iterable[str]) -> list[str]:
    wanted = [value] if isinstance(value, str) else list(value)
    statuses = {part.strip().upper() for item in wanted for part in str(item).split(",")} - {""}
    unknown = sorted(statuses - set(STATUSES))
    if unknown:
        raise ConfigurationError(
            f"status is {unknown[0]!r}, which the API does not know.",
            f"Choose from {', '.join(STATUSES)}.",
        )
    return sorted(statuses)


def _table_format(name: str, value: object) -> str:
    wanted = str(value).strip().lower()
    if wanted not in TABLE_FORMATS:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which is no format of tables in a lake.",
            f"Choose from {', '.join(TABLE_FORMATS)}.",
        )
    return wanted


def _duration(name: str, value: str | float | timedelta) -> timedelta:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else -1.0
    if not 0 <= seconds <= 366 * _DAY_SECONDS:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which is not a length of time up to a year.",
            "Write seconds, or a number with s, m, h or d, such as 10m.",
        )
    return timedelta(seconds=seconds)


def _integer(name: str, value: object, low: int, high: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,12}", text):
        raise ConfigurationError(f"{name} is {text!r}.", f"Give a whole number, {low} to {high:,}.")
    if not low <= int(text) <= high:
        raise ConfigurationError(f"{name} is {text}.", f"Choose {low} to {high:,}.")
    return int(text)


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _DAY_SECONDS:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, which is not a number of seconds.",
            "Choose more than 0, at most 86,400.",
        )
    return seconds
