"""Takes unpromised keys out of a page's objects, and keeps them as JSON text. Pure."""

from __future__ import annotations

from collections.abc import Callable, KeysView
from typing import Any

import orjson
import pyarrow as pa

from unify_source.common.resources import JSON, Resource
from unify_source.common.settings.limits import Limits
from unify_source.flatten.decode.json_text import levels, parsed, text_of

MORE_KEY = "$more"
"""The key under which an object carries the JSON text of its unpromised keys."""

Gather = Callable[[Any], None]
"""Moves the unpromised keys of a value, and of all objects in it, to their `MORE_KEY`, in place."""


class RowProblem(ValueError):
    """Why a row cannot be read; `plain_reason` says so without a value of the row."""

    def __init__(self, reason: str, plain_reason: str | None = None) -> None:
        super().__init__(reason)
        self.plain_reason = plain_reason or reason


def too_deep(most: int) -> RowProblem:
    """Return the error for a row with too many levels."""
    return RowProblem(f"is nested more than {most} levels deep (max_depth)")


def rows_with_more(resource: Resource, body: bytes, limits: Limits) -> list[Any]:
    """Return the rows of a page, unchecked, with all unpromised keys in `MORE_KEY`.

    Raises ValueError for a page that must be read row by row.
    """
    if len(body) > limits.max_row_bytes:
        raise ValueError("a row may be too long")
    page = orjson.loads(body)  # It refuses a depth that would overflow the stack of `parsed`.
    # orjson may lose digits, but then it does not write the page back unchanged.
    if orjson.dumps(page) != body:
        page = parsed(body.decode())
    rows = page.get(resource.list_key) if isinstance(page, dict) else None
    if not isinstance(rows, list):
        raise ValueError("a page without its list")  # noqa: TRY004 - like any other broken page
    gather = _gatherer(resource.promised_type(), 1, limits.max_depth)
    for row in rows:
        gather(row)
    return rows


def unpromised(value: dict[str, Any], promised: KeysView[str]) -> dict[str, Any] | None:
    """Return the values of an object's unpromised keys, None if there are none."""
    if promised >= value.keys():
        return None
    return {k: v for k, v in value.items() if k not in promised and v is not None} or None


def json_within(value: Any, level: int, max_depth: int) -> str:
    """Return the JSON text of a value at a level of its row.

    Raises RowProblem for a value that no column can hold.
    """
    text = text_of(value)
    if "\\u0000" in text and _has_nul_key(value):
        raise RowProblem("has a key with U+0000")
    # Most have too few brackets to be too deep, so their nesting need not be measured.
    if text.count("[") + text.count("{") > max_depth - level < levels(text.encode()):
        raise too_deep(max_depth)
    return text


def _gatherer(kind: pa.StructType, level: int, max_depth: int) -> Gather:
    promised = {item.name: None for item in kind}.keys()
    gathers = {item.name: _below(item.type, level, max_depth) for item in kind}
    below = [(name, gather_item) for name, gather_item in gathers.items() if gather_item]
    jsons = [item.name for item in kind if item.type == JSON]

    def gather(value: Any) -> None:
        if type(value) is not dict:
            raise RowProblem("is not an object")
        if not promised >= value.keys():
            more = unpromised(value, promised)
            # In place: copying every object would be too slow.
            for key in value.keys() - promised:
                del value[key]
            if more:
                value[MORE_KEY] = json_within(more, level - 1, max_depth)
        for key in jsons:
            if (item := value.get(key)) is not None:
                value[key] = json_within(item, level, max_depth)
        for key, gather_item in below:
            if (item := value.get(key)) is not None:
                gather_item(item)

    return gather


def _below(kind: pa.DataType, level: int, max_depth: int) -> Gather | None:
    if pa.types.is_struct(kind):
        return _gatherer(kind, level + 1, max_depth)
    if not pa.types.is_list(kind):
        return None
    gather_item = _gatherer(kind.value_type, level + 2, max_depth)

    def gather(value: Any) -> None:
        if type(value) is not list:
            raise RowProblem("is not a list")
        for item in value:
            gather_item(item)

    return gather


def _has_nul_key(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul_key(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul_key, value))
