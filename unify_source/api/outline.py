"""Skims a page for its cursor and for what identifies its rows, without parsing the rows. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import msgspec

from unify_source.common.resources import CURSOR, KEY

NEXT_CURSOR = "next_cursor"


class Version(msgspec.Struct, frozen=True, gc=False):
    """The id and the `updated_at` of a row, as text."""

    key: str = msgspec.field(name=KEY)
    updated: str = msgspec.field(name=CURSOR)


class Outline(NamedTuple):
    """The versions of a page's rows, its cursor, and whether it may have either key twice."""

    versions: list[Version]
    next_cursor: str | None
    may_repeat: bool


def outline(body: bytes, list_key: str) -> Outline:
    """Skim a page. Raises ValueError or RecursionError for one that has to be parsed."""
    # A page with other keys fails here, and is skimmed in the general way below.
    with suppress(ValueError):
        return _usual(body, list_key)
    raw = _decoder(list_key).decode(body)
    rows, cursor = getattr(raw, list_key), raw.next_cursor
    # Parsers silently keep the last of two values. Searching for another key takes longer than this
    # skimming, and hardly any page has room for one.
    around = len(body) - len(memoryview(rows)) - len(memoryview(cursor))
    may_repeat = around >= len(f'{{"{list_key}":,"{NEXT_CURSOR}":}}"{NEXT_CURSOR}":')
    return Outline(_VERSIONS.decode(rows), _CURSOR.decode(cursor), may_repeat)


def _usual(body: bytes, list_key: str) -> Outline:
    """Skim a page that consists of its list and its cursor, in half the time."""
    head = _head(list_key).match(body)
    tail = _TAIL.match(body, body.rfind(b",", 0, body.rfind(_CURSOR_KEY)))
    if not (head and tail):
        raise ValueError("another key")
    # If either key came twice, there would be more than one value between them.
    rows = memoryview(body)[head.end() : tail.start()]
    return Outline(_VERSIONS.decode(rows), _CURSOR.decode(tail[1]), may_repeat=False)


_CURSOR_KEY = f'"{NEXT_CURSOR}"'.encode()
_SPACE = rb"[ \t\r\n]*"
_TAIL = re.compile(
    _SPACE.join((b",", _CURSOR_KEY, b":", rb'(null|"[^"\\]*")', b"}", rb"\Z")),
)
_VERSIONS = msgspec.json.Decoder(list[Version])
_CURSOR: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


@cache
def _head(list_key: str) -> re.Pattern[bytes]:
    return re.compile(_SPACE.join((b"", b"{", f'"{list_key}"'.encode(), b":")))


@cache
def _decoder(list_key: str) -> msgspec.json.Decoder[Any]:
    fields = [(name, msgspec.Raw) for name in (list_key, NEXT_CURSOR)]
    return msgspec.json.Decoder(msgspec.defstruct("Page", fields))
