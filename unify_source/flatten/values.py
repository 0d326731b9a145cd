"""The kinds of JSON value, as dlt names types, and which column each of them fits. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa

from unify_source.common.resources import FLAG, INSTANT, TEXT, WHOLE
from unify_source.common.times import parse_instant
from unify_source.flatten.decode.json_text import Number, text_of

ARROW_TYPES: dict[str, pa.DataType] = {
    "bigint": WHOLE,
    "double": pa.float64(),
    "timestamp": INSTANT,
    "bool": FLAG,
    "text": TEXT,
    "json": TEXT,
}
"""dlt's types of new columns. A column that begins with several kinds gets the first of these."""

DLT_TYPES = {arrow: name for name, arrow in ARROW_TYPES.items() if name != "json"}
"""The reverse, without JSON, which is text with a mark."""

_INT64 = 1 << 63
# A fraction of more than six digits would lose some.
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
)


def kind_of(value: Any, *, json_columns: bool) -> str:
    """Return the type of a column that holds this value unchanged."""
    if isinstance(value, list):
        return "json" if json_columns else "text"
    return _scalar(value)[0]


def chosen(kinds: AbstractSet[str]) -> str:
    """Choose the type of a new column from all kinds that it begins with, whatever their order.

    Numbers come first, so that sums are right, and text last: odd texts go to a column beside the
    numbers, not the other way round.
    """
    # A later whole number that a double cannot hold goes to a column beside it: see `_same_number`.
    if {"bigint", "double"} <= kinds:
        return "double"
    return next(kind for kind in ARROW_TYPES if kind in kinds)


def fitted(value: Any, kind: str, *, json_columns: bool) -> tuple[bool, Any]:
    """Tell whether a column of this type holds a value without loss, and return what it stores."""
    if kind == "json":
        return True, text_of(value)
    if isinstance(value, list):
        return kind == "text" and not json_columns, text_of(value)
    own, stored = _scalar(value)
    if own == kind:
        return True, stored
    if kind == "text":
        return True, value if isinstance(value, str) else text_of(value)
    return _same_number(stored, kind) if {own, kind} == {"bigint", "double"} else (False, None)


def _same_number(number: float, kind: str) -> tuple[bool, float | None]:
    if kind == "double":
        # 9007199254740993 has no double of its own: stored as one it would end in 992.
        return int(float(number)) == number, float(number)
    is_whole = number == int(number) and -_INT64 <= number < _INT64
    return is_whole, int(number)


def _scalar(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        # Only a complete RFC 3339 time with a zone. A date, or a time without a zone, does not
        # define an instant, and stays text.
        instant = parse_instant(value) if _INSTANT.fullmatch(value) else None
        return ("timestamp", instant) if instant else ("text", value)
    if isinstance(value, Number):
        number = value.value()
        return (_number_kind(number), number) if number is not None else ("text", value.text)
    return "bool" if isinstance(value, bool) else _number_kind(value), value


def _number_kind(value: float) -> str:
    return "bigint" if isinstance(value, int) else "double"
