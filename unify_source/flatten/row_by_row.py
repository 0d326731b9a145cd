"""Rows looked at one by one: which break the API's promises, and why.

Pure. Comes in only where Arrow could not read a batch of pages as promised.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from unify_source.resources import CURSOR, FLAG, JSON, KEY, TEXT, WHOLE, Path, Resource
from unify_source.times import parse_instant

AS_JSON = "$json"
"""An object with this one key stands for a list that Arrow could not type: its JSON text."""

_INT64 = 1 << 63
_NOT = {FLAG: "not true or false", WHOLE: "not a whole number of 64 bits", TEXT: "not text"}


@dataclass(frozen=True)
class Unreadable:
    """A row that its table cannot hold, whole: `raw` is its JSON text."""

    id: str | None
    updated_at: datetime | None
    reason: str
    raw: str

    @classmethod
    def of(cls, row: object, reason: str) -> Unreadable:
        """Set a row aside, with what is known of it."""
        own = row if isinstance(row, dict) else {}
        key, changed = own.get(KEY), own.get(CURSOR)
        return cls(
            id=key if isinstance(key, str) and key and _is_unicode(key) else None,
            updated_at=parse_instant(changed) if isinstance(changed, str) else None,
            reason=reason,
            raw=json.dumps(row),
        )

    @property
    def key(self) -> str:
        """The enrollment's id, or a hash of `raw` where it has none."""
        return self.id or hashlib.sha256(self.raw.encode()).hexdigest()


def examine(resource: Resource, row: Any) -> Unreadable | None:
    """Say why a row cannot be read as its tables promise, None where it can.

    A readable row's instants are rewritten in place, in microseconds and UTC.
    """
    if not isinstance(row, dict):
        return Unreadable.of(row, f"is {_kind(row)}, not an object")
    raw = Unreadable.of(row, "")
    if not _is_unicode(json.dumps(row, ensure_ascii=False)):
        return Unreadable.of(row, "holds text that is not Unicode")
    instants = set(resource.instants())
    problem = _problem(row, resource.promised_type(), (), instants)
    if problem is None and row.get(CURSOR) is None:
        problem = f"{CURSOR} is missing"
    return Unreadable(raw.id, raw.updated_at, problem, raw.raw) if problem else None


def with_one_type_each(resource: Resource, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with every unknown field of one type throughout, so that Arrow can read them.

    A field of whole and broken numbers becomes broken numbers, any other mixture JSON text. Lists
    become an object with the one key `$json`.
    """
    promised = resource.promised_type()
    kinds: dict[Path, set[str]] = {}
    for row in rows:
        _collect(row, promised, (), kinds)
    return [_unified(row, promised, (), kinds) for row in rows]


def _problem(value: Any, promised: pa.DataType, path: Path, instants: set[Path]) -> str | None:
    where = ".".join(path)
    if value is None or promised == JSON:
        return None
    if pa.types.is_struct(promised):
        return _problem_of_object(value, promised, path, instants)
    if pa.types.is_list(promised):
        if not isinstance(value, list):
            return f"{where} is {_kind(value)}, not a list"
        items = (
            _problem(item, promised.value_type, path, instants)
            if item is not None
            else f"{where} has null"
            for item in value
        )
        return next(filter(None, items), None)
    return None if _is_promised(value, promised) else f"{where} is {_kind(value)}, {_NOT[promised]}"


def _is_promised(value: Any, promised: pa.DataType) -> bool:
    if promised == WHOLE:
        return type(value) is int and -_INT64 <= value < _INT64
    return isinstance(value, bool if promised == FLAG else str)


def _problem_of_object(
    value: Any, promised: pa.StructType, path: Path, instants: set[Path]
) -> str | None:
    if not isinstance(value, dict):
        return f"{'.'.join(path)} is {_kind(value)}, not an object"
    for item in promised:
        below = (*path, item.name)
        if problem := _problem(value.get(item.name), item.type, below, instants):
            return problem
        if below in instants and isinstance(text := value.get(item.name), str):
            instant = parse_instant(text)
            if instant is None:
                return f"{'.'.join(below)} is {text[:40]!r}, not an RFC 3339 time"
            value[item.name] = instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
    if not value.get(KEY):
        return f"{'.'.join((*path, KEY))} is missing"
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _collect(
    value: Any, promised: pa.DataType | None, path: tuple[str, ...], kinds: dict[Any, set[str]]
) -> None:
    if promised == JSON:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _collect(item, _below(promised, key), (*path, key), kinds)
    elif isinstance(value, list) and promised is not None:
        for item in value:
            _collect(item, promised.value_type, path, kinds)
    if value is not None and promised is None:
        kinds.setdefault(path, set()).add(_arrow_kind(value))


def _unified(
    value: Any, promised: pa.DataType | None, path: tuple[str, ...], kinds: dict[Any, set[str]]
) -> Any:
    if promised == JSON and value is not None:
        return _compact(value)
    if isinstance(value, list) and promised is not None:
        return [_unified(item, promised.value_type, path, kinds) for item in value]
    found = kinds.get(path, set()) if promised is None else set()
    if isinstance(value, dict) and found <= {"object"}:
        return {
            key: _unified(item, _below(promised, key), (*path, key), kinds)
            for key, item in value.items()
        }
    if value is None or not found or found in ({"bool"}, {"int"}, {"text"}):
        return value
    if found <= {"int", "float"}:
        return float(value)
    text = value if isinstance(value, str) else _compact(value)
    return {AS_JSON: text} if found == {"list"} else text


def _below(promised: pa.DataType | None, key: str) -> pa.DataType | None:
    if promised is None or not pa.types.is_struct(promised):
        return None
    index = promised.get_field_index(key)
    return promised.field(index).type if index >= 0 else None


def _arrow_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "huge"
    if isinstance(value, float):
        return "float" if math.isfinite(value) else "huge"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "object"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
