"""Skims a page for its cursor and for what identifies its rows, without parsing the rows. Pure."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec

from unify_source.resources import CURSOR, KEY

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
    raw = _decoder(list_key).decode(body)
    rows, cursor = getattr(raw, list_key), raw.next_cursor
    # Parsers silently keep the last of two values. Searching for another key takes longer than this
    # skimming, and hardly any page has room for one.
    around = len(body) - len(memoryview(rows)) - len(memoryview(cursor))
    may_repeat = around >= len(f'{{"{list_key}":,"{NEXT_CURSOR}":}}"{NEXT_CURSOR}":')
    return Outline(_VERSIONS.decode(rows), _CURSOR.decode(cursor), may_repeat)


_VERSIONS = msgspec.json.Decoder(list[Version])
_CURSOR: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


@cache
def _decoder(list_key: str) -> msgspec.json.Decoder[Any]:
    fields = [(name, msgspec.Raw) for name in (list_key, NEXT_CURSOR)]
    return msgspec.json.Decoder(msgspec.defstruct("Page", fields))
