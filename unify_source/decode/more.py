"""Takes unpromised keys out of a page's objects, and keeps them as JSON text. Pure."""

from __future__ import annotations

from collections.abc import Callable, KeysView
from typing import Any

import orjson
import pyarrow as pa

from unify_source.decode.json_text import levels, parsed, text_of
from unify_source.limits import Limits
from unify_source.resources import JSON, Resource

MORE = "$more"
"""The key under which an object carries the JSON text of its unpromised keys."""

Strip = Callable[[Any], None]


class Odd(ValueError):
    """What is wrong with a row; `plain` says it without quoting a value of the row."""

    def __init__(self, problem: str, plain: str | None = None) -> None:
        super().__init__(problem)
        self.plain = plain or problem


def too_deep(most: int) -> Odd:
    """Return the error for a row with too many levels."""
    return Odd(f"is nested more than {most} levels deep (max_depth)")


def stripped_rows(resource: Resource, body: bytes, limits: Limits) -> list[Any]:
    """Return the rows of a page, unchecked, with all unpromised keys in `MORE`.

    Raises ValueError for a page that must be read row by row.
    """
    if len(body) > limits.max_row_bytes:
        raise ValueError("a row may be too long")
    orjson.loads(body)  # It refuses a depth that would overflow the stack of the next parser.
    page = parsed(body.decode())
    rows = page.get(resource.list_key) if isinstance(page, dict) else None
    if not isinstance(rows, list):
        raise ValueError("a page without its list")  # noqa: TRY004 - like any other broken page
    strip = _stripper(resource.promised_type(), 1, limits.max_depth)
    for row in rows:
        strip(row)
    return rows


def unpromised(value: dict[str, Any], promised: KeysView[str]) -> dict[str, Any] | None:
    """Return the values of an object's unpromised keys, None if there are none."""
    if promised >= value.keys():
        return None
    return {k: v for k, v in value.items() if k not in promised and v is not None} or None


def json_within(value: Any, level: int, max_depth: int) -> str:
    """Return the JSON text of a value at a level of its row.

    Raises Odd for a value that no column can hold.
    """
    text = text_of(value)
    if "\\u0000" in text and _has_nul_key(value):
        raise Odd("has a key with U+0000")
    # Most have too few brackets to be too deep, so their nesting need not be measured.
    if text.count("[") + text.count("{") > max_depth - level < levels(text.encode()):
        raise too_deep(max_depth)
    return text


def _stripper(kind: pa.StructType, level: int, max_depth: int) -> Strip:
    promised = {item.name: None for item in kind}.keys()
    strips = {item.name: _below(item.type, level, max_depth) for item in kind}
    below = [(name, strip_item) for name, strip_item in strips.items() if strip_item]
    jsons = [item.name for item in kind if item.type == JSON]

    def strip(value: Any) -> None:
        if type(value) is not dict:
            raise Odd("is not an object")
        if not promised >= value.keys():
            more = unpromised(value, promised)
            # In place: copying every object would be too slow.
            for key in value.keys() - promised:
                del value[key]
            if more:
                value[MORE] = json_within(more, level - 1, max_depth)
        for key in jsons:
            if (item := value.get(key)) is not None:
                value[key] = json_within(item, level, max_depth)
        for key, strip_item in below:
            if (item := value.get(key)) is not None:
                strip_item(item)

    return strip


def _below(kind: pa.DataType, level: int, max_depth: int) -> Strip | None:
    if pa.types.is_struct(kind):
        return _stripper(kind, level + 1, max_depth)
    if not pa.types.is_list(kind):
        return None
    strip_item = _stripper(kind.value_type, level + 2, max_depth)

    def strip(value: Any) -> None:
        if type(value) is not list:
            raise Odd("is not a list")
        for item in value:
            strip_item(item)

    return strip


def _has_nul_key(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul_key(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul_key, value))
