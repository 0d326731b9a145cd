"""Finds the brackets of a JSON text without parsing it, and cuts out what they enclose. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

OPENING = b"[{"
_STRING = re.compile(rb'"[^"]*"')
_BRACKET = re.compile(rb"[\[\]{}]")


def brackets(text: bytes) -> Iterator[int]:
    """Yield the positions of the brackets and braces outside strings.

    It does not recurse: 100,000 levels would overflow the stack of any parser.
    """
    plain, outside = _unescaped(text), 0
    while match := _BRACKET.search(plain, outside):
        at = match.start()
        if plain.count(b'"', outside, at) % 2:
            outside = plain.find(b'"', at) + 1 or len(plain)
        else:
            yield at
            outside = at + 1


def _unescaped(text: bytes) -> bytes:
    """Return a text of the same length in which every quote begins or ends a string."""
    return text.replace(rb"\\", b"  ").replace(rb"\"", b"  ") if b"\\" in text else text


def is_balanced(text: bytes) -> bool:
    """Tell whether as many brackets close as open outside strings, at the cost of a search."""
    plain = _STRING.sub(b"", _unescaped(text))
    opening, closing = ([plain.count(bytes([each])) for each in pair] for pair in (OPENING, b"]}"))
    return opening == closing


def cut(text: bytes, level: int) -> tuple[bytes, list[bytes]]:
    """Return JSON with an empty list for each value nested at a level, and those values."""
    kept, nested, depth, start = [], [], 0, 0
    for at in brackets(text):
        is_opening = text[at] in OPENING
        if is_opening and depth == level:
            kept.append(text[start:at])
            start = at
        depth += 1 if is_opening else -1
        if not is_opening and depth == level:
            kept.append(b"[]")
            nested.append(text[start : at + 1])
            start = at + 1
    return b"".join(kept) + text[start:], nested


def repeated(text: bytes, names: Iterable[str]) -> str | None:
    """Return the first of these names that a JSON object has more than once, None if none is.

    Parsers keep the last of such values in silence. Names in nested objects do not count.
    """
    quoted = {name: json.dumps(name).encode() for name in names}
    doubtful = [
        name
        for name, word in quoted.items()
        # A name may be written with escapes.
        if b"\\u" in text or text.find(word) != text.rfind(word)
    ]
    if doubtful:
        around = cut(text, 1)[0].decode("utf-8-sig", errors="surrogateescape")
        # What is no object has no pairs.
        with suppress(ValueError):
            has = [name for name, _ in json.loads(around, object_pairs_hook=list, strict=False)]
            return next((name for name in doubtful if has.count(name) > 1), None)
    return None
