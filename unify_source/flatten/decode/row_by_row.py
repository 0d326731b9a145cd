"""Reads rows one by one, and finds those that break the API's promises. Pure.

The result depends on the row's own text only, so it is the same in any page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from unify_source.common.resources import CURSOR, FLAG, JSON, KEY, TEXT, WHOLE, Path, Resource
from unify_source.common.settings.limits import Limits
from unify_source.common.times import is_beyond_years, parse_instant
from unify_source.flatten.decode.json_text import Number, parsed, text_of
from unify_source.flatten.decode.more import MORE_KEY, RowProblem, json_within, too_deep, unpromised
from unify_source.flatten.decode.pages import RawRow, raw_rows
from unify_source.flatten.decode.unreadable import Unreadable

Row = dict[str, Any]
Read = Callable[[Any], Any]

_TYPES: dict[pa.DataType, type] = {TEXT: str, FLAG: bool, WHOLE: int}
_NOT = {TEXT: "not text", FLAG: "not true or false", WHOLE: "not a whole number of 64 bits"}


def rows_of(resource: Resource, body: bytes, limits: Limits) -> Iterator[Row | Unreadable]:
    """Yield each row of a page: its promised keys and `MORE_KEY`, or why it cannot be read.

    Raises BrokenPage for a body that is not a page.
    """
    read = _reader(resource, limits.max_depth)
    for raw in raw_rows(body, resource.list_key):
        try:
            yield read(_value(raw, limits))
        except RowProblem as problem:
            yield Unreadable.of(raw, str(problem), problem.plain_reason)


def _value(raw: RawRow, limits: Limits) -> Any:
    # Checked before parsing: the parser recurses, and allocates memory for all of its input.
    if len(raw.text) > limits.max_row_bytes:
        raise RowProblem(f"is longer than {limits.max_row_bytes:,} bytes (max_row_bytes)")
    if raw.levels > limits.max_depth:
        raise too_deep(limits.max_depth)
    try:
        value = parsed(raw.text.decode())
        # A lone surrogate, "\ud83d", is legal JSON, but no database can store it. Writing the value
        # again finds it.
        text_of(value)
    except UnicodeDecodeError:
        raise RowProblem("holds bytes that are not UTF-8") from None
    except ValueError as error:
        raise RowProblem(f"is not JSON: {error}") from None
    except TypeError:
        raise RowProblem("holds text that is not Unicode") from None
    return value


def _reader(resource: Resource, max_depth: int) -> Read:
    read_object = _object(resource, resource.promised_type(), (), 1, max_depth)

    def read(value: Any) -> Row:
        row: Row = read_object(value)
        if resource.windowed and CURSOR not in row:
            raise RowProblem(f"{CURSOR} is missing")
        return row

    return read


def _object(
    resource: Resource, kind: pa.StructType, path: Path, level: int, max_depth: int
) -> Read:
    reads = {
        item.name: _read(resource, item.type, (*path, item.name), level, max_depth) for item in kind
    }
    promised, where = reads.keys(), ".".join((*path, KEY))

    def read(value: Any) -> Row:
        if type(value) is not dict:
            raise RowProblem(f"{'.'.join(path)} is {_name(value)}, not an object".strip())
        row = {}
        for name, read_value in reads.items():
            item = value.get(name)
            # To a table, null and a missing key are the same.
            if item is not None:
                row[name] = read_value(item)
        if not row.get(KEY):
            raise RowProblem(f"{where} is missing")
        if more := unpromised(value, promised):
            row[MORE_KEY] = json_within(more, level - 1, max_depth)
        return row

    return read


def _read(resource: Resource, kind: pa.DataType, path: Path, level: int, max_depth: int) -> Read:
    if pa.types.is_struct(kind):
        return _object(resource, kind, path, level + 1, max_depth)
    if pa.types.is_list(kind):
        return _list(_object(resource, kind.value_type, path, level + 2, max_depth), ".".join(path))
    if kind == JSON:
        return lambda value: json_within(value, level, max_depth)
    if path in set(resource.instants()):
        return _instant(".".join(path))
    return _scalar(kind, ".".join(path))


def _list(read_item: Read, where: str) -> Read:
    def read(value: Any) -> list[Row]:
        if type(value) is not list:
            raise RowProblem(f"{where} is {_name(value)}, not a list")
        if None in value:
            raise RowProblem(f"{where} has null")
        return [read_item(item) for item in value]

    return read


def _scalar(kind: pa.DataType, where: str) -> Read:
    expected = _TYPES[kind]

    def read(value: Any) -> Any:
        # Not isinstance: to Python, true is a whole number.
        if type(value) is not expected:
            raise RowProblem(f"{where} is {_name(value)}, {_NOT[kind]}")
        return value

    return read


def _instant(where: str) -> Read:
    def read(value: Any) -> str:
        if type(value) is not str:
            raise RowProblem(f"{where} is {_name(value)}, not text")
        if parse_instant(value) is None:
            far = is_beyond_years(value)
            why = "outside the years 1 to 9999 in UTC" if far else "not an RFC 3339 time"
            raise RowProblem(f"{where} is {value[:40]!r}, {why}", f"{where} is text, {why}")
        return value

    return read


def _name(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", Number: "a number"}
    names |= {str: "text", list: "a list", dict: "an object", type(None): "null"}
    return names[type(value)]
