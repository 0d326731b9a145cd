"""Parses the value of one setting: each reader returns it, or refuses it by the setting's name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import requests

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown

DAY_SECONDS = 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
# Beyond 4,300 digits, `int` raises an error that names no setting.
_MOST_DIGITS = 12
_LONGEST_HOST = 253


class Reader(Protocol):
    """Reads a value given for a setting, or raises ConfigurationError with the setting's name."""

    @property
    def limits(self) -> str:
        """The accepted values, as the end of a sentence; empty if the meaning states them."""

    def __call__(self, name: str, value: object) -> object:
        """Return the parsed value."""


@dataclass(frozen=True)
class Setting:
    """The facts of one setting.

    `read` parses a value or refuses it; `default` is written as in a file. `meaning` may contain
    the reader's `{0.limits}`. `option` is its option on the command line, if it has one.
    """

    read: Callable[[str, Any], object]
    meaning: str
    default: str = ""
    option: str = ""
    is_secret: bool = False

    @property
    def description(self) -> str:
        """The meaning with its limits, as in the documentation and in `--help`."""
        return self.meaning.format(self.read)

    @property
    def is_text(self) -> bool:
        """Whether its value is quoted in a file."""
        return not re.fullmatch(r"\d+", self.default)


@dataclass(frozen=True)
class Whole:
    """A whole number within limits, as a number or as text."""

    low: int
    high: int

    @property
    def limits(self) -> str:
        """The lowest and the highest."""
        return f"{self.low} to {self.high:,}"

    def __call__(self, name: str, value: object) -> int:
        """Return the number."""
        text = str(value).strip()
        is_whole = not isinstance(value, bool) and re.fullmatch(r"-?\d+", text)
        if not is_whole or len(text) > _MOST_DIGITS or not self.low <= int(text) <= self.high:
            wrong = "out of range" if is_whole else "not a whole number"
            raise ConfigurationError(
                f"is {shown(value)}, which is {wrong}.",
                f"Give a whole number, {self.limits}.",
                setting=name,
            )
        return int(text)


@dataclass(frozen=True)
class Seconds:
    """A number of seconds, up to a day; 0 only where not waiting at all makes sense."""

    may_be_zero: bool = False
    limits: str = "at most a day"

    def __call__(self, name: str, value: object) -> float:
        """Return the seconds."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= DAY_SECONDS or (seconds == 0 and not self.may_be_zero):
            wrong = "not a number of seconds" if math.isnan(seconds) else "out of range"
            least = "0 or more" if self.may_be_zero else "more than 0"
            raise ConfigurationError(
                f"is {shown(value)}, which is {wrong}.",
                f"Choose {least}, at most {DAY_SECONDS:,}.",
                setting=name,
            )
        return seconds


@dataclass(frozen=True)
class Choice:
    """One of a few words, in any case."""

    words: tuple[str, ...]

    @property
    def limits(self) -> str:
        """All words."""
        *others, last = (f"`{word}`" for word in self.words)
        return f"{', '.join(others)} or {last}"

    def __call__(self, name: str, value: object) -> str:
        """Return the word as it is spelled here."""
        wanted = str(value).strip().lower()
        for word in self.words:
            if word.lower() == wanted:
                return word
        raise ConfigurationError(
            f"is {shown(value)}, which is not one of its values.",
            f"Choose from {', '.join(self.words)}.",
            setting=name,
        )


@dataclass(frozen=True)
class Choices:
    """Some of a few words: one text with commas, or a list of texts."""

    words: tuple[str, ...]

    @property
    def limits(self) -> str:
        """All words."""
        return f"{Choice(self.words).limits}; separate several with commas"

    def __call__(self, name: str, value: object) -> tuple[str, ...]:
        """Return the words, each once, in alphabetical order."""
        items = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        words = [word for item in items for word in str(item).split(",") if word.strip()]
        return tuple(sorted({Choice(self.words)(name, word.strip()) for word in words}))


def read_duration(name: str, value: object) -> timedelta:
    """Return a duration of up to a year: seconds, or a number with s, m, h or d."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else -1.0
    if not 0 <= seconds <= 366 * DAY_SECONDS:
        raise ConfigurationError(
            f"is {shown(value)}, which is not a duration of up to a year.",
            "Write seconds, or a number with s, m, h or d, such as 10m.",
            setting=name,
        )
    return timedelta(seconds=seconds)


def read_id(name: str, value: object) -> str:
    """Return an id in the API's spelling."""
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ConfigurationError(
            f"is {shown(value)}, which is not an id of Unify's.",
            "Ids look like 3c90c3cc-0d44-4b50-8888-8dd25736052a.",
            setting=name,
        ) from None


def read_address(name: str, value: object) -> str:
    """Return the API's address, without a trailing slash; plain http only on this machine."""
    url = str(value).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        prepared = requests.Request("GET", url).prepare()
        host = urlsplit(str(prepared.url)).hostname or ""
        # The resolver refuses a longer name, and one with an empty or a longer part.
        if len(host.encode("idna")) > _LONGEST_HOST:
            parts = urlsplit("")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"is {shown(_without_password(url))}, which is not the address of an API.",
            "Write it like https://api.unifygtm.com.",
            setting=name,
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            "contains a user name or a password.",
            "Leave them out; the API key is enough.",
            setting=name,
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigurationError(
            f"is {shown(url)}: over plain http, others could read the key.",
            "Use https; http is for this machine only (127.0.0.1, ::1, localhost).",
            setting=name,
        )
    return url


def read_key(name: str, value: object) -> str:
    """Return an API key that an HTTP header can carry."""
    key = str(value).strip()
    # requests refuses such a header too, but quotes it in its error: the key would be logged.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "contains a blank or a character that no HTTP header can carry.",
            "Copy the key again, without quotes and line breaks.",
            setting=name,
        )
    return key


def _without_password(url: str) -> str:
    return re.sub(r"//.*@", "//…@", url)


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
