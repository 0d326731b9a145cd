"""Keeps secrets out of what is printed, logged or written.

Code that reads a secret hands it to `keep_out`; code that shows text passes it through `redacted`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

MARK = "***"
# A shorter part of a secret may be any word: redacting it would spoil every sentence.
_SHORTEST_PART = 4
_SHORTEST_SECRET = 3
_USERINFO = re.compile(r"://(.*)@", re.DOTALL)
_UNENCODED = re.compile(r"[@:/#\s]|%(?![0-9a-fA-F]{2})")
_DSN_PASSWORD = re.compile(
    r"\b(?:password|passwd|pwd)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE
)
# Passwords that nobody handed to `keep_out`, as they stand in addresses and in libpq's settings.
_PASSWORDS = re.compile(
    r"""((?<![^\s"':/@])[^\s"':/@]*:(?!//)(?=[^\s"']{0,500}@)|\bpassword=)"""
    r"""('[^']*'|[^\s"']{1,500}(?=@)|[^\s"'@]+)""",
    re.IGNORECASE,
)

# Dates and ids are long words of digits and letters too. A short word is a key's if it changes
# between digits and letters more than once, unlike 5minutes, and is no part of an address.
_KEY_LIKE = re.compile(
    r"(?<![\w+=~-])(?!\d{4}-|\d{8}T|[\da-f]{8}-)(?:"
    r"(?=[\w+=~-]*\d)(?=[\w+=~-]*[a-z])[\w+=~-]{20,}"
    r"|(?<![.:/@])(?=[\w+=~-]*?([a-z]\d+[a-z]|\d[a-z]+\d))[\w+=~-]{12,}(?![\w+=~.:/@-])"
    r"|[prsu]k_(live|test)_\w+)",
    re.ASCII | re.IGNORECASE,
)
_SHOWN = 100

_kept: set[str] = set()
_pattern: re.Pattern[str] | None = None
_is_unencoded = False


def keep_out(secret: object, *, with_parts: bool = True) -> None:
    """Redact this secret in every text from now on: a key, a password or a whole address.

    Of an address only the password is secret. So are its parts, because libraries cut an address
    at the first `@`, `:`, `/`, `#` or `%` of a password that was not encoded, and quote the rest.
    Without `with_parts` it is only redacted as a whole.
    """
    global _pattern, _is_unencoded  # noqa: PLW0603 - rebuilt from the set beside them
    text = str(secret).strip()
    if userinfo := _USERINFO.search(text):
        _is_unencoded |= bool(_UNENCODED.search(userinfo[1].partition(":")[2]))
    parts = _parts(text) if with_parts else [text] * (len(text) >= _SHORTEST_SECRET)
    new = {form for part in parts for form in _forms(part)} - _kept
    if new:
        _kept.update(new)
        # The longest first, or redacting a part would leave the rest of the whole.
        _pattern = re.compile("|".join(map(re.escape, sorted(_kept, key=len, reverse=True))))


def holds_password(text: str) -> bool:
    """Tell whether a text is an address with a password, or libpq's form of one."""
    userinfo = _USERINFO.search(text)
    return bool((userinfo and ":" in userinfo[1]) or _DSN_PASSWORD.search(text))


def has_unencoded_password() -> bool:
    """Tell whether a password in an address should have been percent-encoded."""
    return _is_unencoded


def redacted(text: str) -> str:
    """Return a text without the known secrets and without anything that looks like a password."""
    known = _pattern.sub(MARK, text) if _pattern else text
    return _PASSWORDS.sub(rf"\1{MARK}", known)


def shown(value: object) -> str:
    """Return a value for an error, shortened; a key that was put in the wrong place is hidden."""
    text = str(value)
    if isinstance(value, str) and _KEY_LIKE.search(text[: 10 * _SHOWN]):
        return f"a text of {len(text)} characters that looks like a key"
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def keep_key_out(name: str) -> None:
    """Redact a name that looks like a key from now on, also in a variable's capitals."""
    if _KEY_LIKE.search(name):
        keep_out(name)
        keep_out(name.upper())


def redact(record: logging.LogRecord) -> bool:
    """Redact a log record, as a filter that lets every record pass."""
    record.msg, record.args = redacted(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
    return True


@contextmanager
def redacted_logs() -> Iterator[None]:
    """Redact the records of every logger, dlt's and the drivers' included, while this lasts."""
    make = logging.getLogRecordFactory()

    def without_secrets(*given: object, **named: object) -> logging.LogRecord:
        record = make(*given, **named)
        redact(record)
        return record

    logging.setLogRecordFactory(without_secrets)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)


def _parts(secret: str) -> Iterator[str]:
    if userinfo := _USERINFO.search(secret):
        _, colon, password = userinfo[1].partition(":")
        if not colon:
            return
        after = secret[userinfo.end() :]
        yield from _parts_of_password(password)
        # A rest too short to redact by itself is recognized by the host that follows it.
        for at in re.finditer("[@:/#%]", password):
            yield f"{password[at.end() :]}@{re.split('[/?#]', after)[0]}"
    elif passwords := _DSN_PASSWORD.findall(secret):
        for password in passwords:
            yield from _parts_of_password(password.strip("'"))
    else:
        yield from _parts_of_password(secret)


def _parts_of_password(password: str) -> Iterator[str]:
    for whole in {password, unquote(password)}:
        if len(whole) >= _SHORTEST_SECRET:
            yield whole
        yield from (p for p in re.split(r"[@:/#%\s]", whole) if len(p) >= _SHORTEST_PART)


def _forms(part: str) -> set[str]:
    # As an address, JSON, and Python's repr write it.
    return {part, quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]}
