"""Reads the value of one setting: each reader returns what it means, or refuses it by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import requests

from unify_source.errors import ConfigurationError

DAY_SECONDS = 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
_KEY_LIKE = re.compile(
    r"(?<![\w+=~-])(?=[\w+=~-]*\d)(?=[\w+=~-]*[a-z])(?!\d{4}-|[\da-f]{8}-)[\w+=~-]{20,}",
    re.ASCII | re.IGNORECASE,
)
_SHOWN = 100


class Reader(Protocol):
    """Reads a value given for a setting, or raises ConfigurationError with the setting's name."""

    @property
    def limits(self) -> str:
        """What values there are, as the end of a sentence; empty where the meaning tells."""

    def __call__(self, name: str, value: object) -> object:
        """Return what the value means."""


@dataclass(frozen=True)
class Setting:
    """The facts of one setting.

    `read` returns what a value means, or refuses it; `default` is written as in a file. `meaning`
    may name the reader's `{0.limits}`. `option` is the command line's, where it has one.
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
        """Whether a file has to quote its value."""
        return not re.fullmatch(r"\d+", self.default)


def shown(value: object) -> str:
    """Return a value for an error, cut; a key that was put in the wrong place stays unseen."""
    text = str(value)
    if isinstance(value, str) and _KEY_LIKE.search(text):
        return f"a text of {len(text)} characters that looks like a key"
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


@dataclass(frozen=True)
class Whole:
    """A whole number within limits, as a number or as text."""

    low: int
    high: int

    @property
    def limits(self) -> str:
        """The least and the most."""
        return f"{self.low} to {self.high:,}"

    def __call__(self, name: str, value: object) -> int:
        """Return the number."""
        text = str(value).strip()
        # At most twelve digits: beyond 4,300 of them `int` raises an error of its own, which names
        # no setting.
        is_whole = not isinstance(value, bool) and re.fullmatch(r"\d{1,12}", text)
        if not is_whole or not self.low <= int(text) <= self.high:
            raise ConfigurationError(
                f"is {shown(value)}.", f"Give a whole number, {self.limits}.", setting=name
            )
        return int(text)


@dataclass(frozen=True)
class Seconds:
    """A number of seconds; `least` may be 0 itself where waiting not at all makes sense."""

    may_be_zero: bool = False
    limits: str = "at most a day"

    def __call__(self, name: str, value: object) -> float:
        """Return the seconds."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= DAY_SECONDS or (seconds == 0 and not self.may_be_zero):
            least = "0 or more" if self.may_be_zero else "more than 0"
            raise ConfigurationError(
                f"is {shown(value)}, which is not a number of seconds.",
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
        """All of the words."""
        *others, last = (f"`{word}`" for word in self.words)
        return f"{', '.join(others)} or {last}"

    def __call__(self, name: str, value: object) -> str:
        """Return the word as it is spelled here."""
        wanted = str(value).strip().lower()
        for word in self.words:
            if word.lower() == wanted:
                return word
        raise ConfigurationError(
            f"is {shown(value)}, which is none of its values.",
            f"Choose from {', '.join(self.words)}.",
            setting=name,
        )


@dataclass(frozen=True)
class Choices:
    """Some of a few words: a text with commas, or several texts."""

    words: tuple[str, ...]

    @property
    def limits(self) -> str:
        """All of the words."""
        return f"{Choice(self.words).limits}; one, or several with commas"

    def __call__(self, name: str, value: object) -> tuple[str, ...]:
        """Return the words, each once, in alphabetical order."""
        items = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        words = [word for item in items for word in str(item).split(",") if word.strip()]
        return tuple(sorted({Choice(self.words)(name, word.strip()) for word in words}))


def read_duration(name: str, value: object) -> timedelta:
    """Return a length of time up to a year: seconds, or a number with s, m, h or d."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else -1.0
    if not 0 <= seconds <= 366 * DAY_SECONDS:
        raise ConfigurationError(
            f"is {shown(value)}, which is not a length of time up to a year.",
            "Write seconds, or a number with s, m, h or d, such as 10m.",
            setting=name,
        )
    return timedelta(seconds=seconds)


def read_id(name: str, value: object) -> str:
    """Return an id of the API's, as it writes them."""
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ConfigurationError(
            f"is {shown(value)}, which is not an id of the API.",
            "Ids look like 3c90c3cc-0d44-4b50-8888-8dd25736052a.",
            setting=name,
        ) from None


def read_address(name: str, value: object) -> str:
    """Return an API's address, without a slash at its end; plain http only on this machine."""
    url = str(value).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        requests.Request("GET", url).prepare()
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
            "carries a user name or a password.",
            "Leave them out; the key is enough.",
            setting=name,
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigurationError(
            f"is {shown(url)}: over plain http the key could be read on the way.",
            "Use https; http is for this machine only (127.0.0.1, ::1, localhost).",
            setting=name,
        )
    return url


def read_key(name: str, value: object) -> str:
    """Return an API key that an HTTP header can carry."""
    key = str(value).strip()
    # requests refuses such a header as well, and quotes it in its error: the key would be in the
    # log.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "holds a blank or a character that no HTTP header can carry.",
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
