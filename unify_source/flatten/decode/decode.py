"""Decodes page bodies into one nested Arrow table, and sets rows aside that break a promise.

Pure. The usual path makes no Python object per row: Arrow parses, types and checks all bodies at
once, and accepts promised keys only. It refuses a batch with anything else; then its rows are read
one by one. Arrow makes the table of those too, so that a row always comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from unify_source.api.outline import NEXT_CURSOR
from unify_source.common.resources import CURSOR, JSON, KEY, TEXT, Path, Resource
from unify_source.common.settings.limits import USUAL, Limits
from unify_source.flatten.decode.instants import instants
from unify_source.flatten.decode.more import MORE_KEY, rows_with_more
from unify_source.flatten.decode.row_by_row import rows_of
from unify_source.flatten.decode.unreadable import Unreadable

# Arrow's default, 1 MB, takes a twentieth longer. It refuses a document that straddles two blocks,
# so a block must be at least as long as the longest page.
_BLOCK = 2 << 20


@dataclass(frozen=True)
class Batch:
    """Rows in the order in which they were read, and those that could not be read as promised.

    `rows` has the same schema for every batch of a resource: a column for each promised key, with
    nested objects as structs and times as instants. The other keys of an object are JSON text
    under its key `MORE_KEY`.
    """

    rows: pa.Table
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        """The keys of all rows, readable or not."""
        return {*self.rows[KEY].to_pylist(), *(row.key for row in self.unreadable)}

    @cached_property
    def size(self) -> int:
        """Its approximate size in memory, in bytes."""
        return int(self.rows.nbytes) + sum(len(row.raw) for row in self.unreadable)


def decode(resource: Resource, bodies: Sequence[bytes], limits: Limits = USUAL) -> Batch:
    """Read pages (JSON objects with the resource's list) as one batch.

    Raises BrokenPage for a body that is not such a page.
    """
    for read in (_promised_alone, _promised_and_more):
        # A page that one of them accepts would come out of the slower ones below the same.
        with suppress(ValueError, TypeError, RecursionError):
            return Batch(read(resource, bodies, limits))
    rows = [row for body in bodies for row in rows_of(resource, body, limits)]
    readable = [row for row in rows if not isinstance(row, Unreadable)]
    unreadable = [row for row in rows if isinstance(row, Unreadable)]
    return Batch(_table(resource, readable), unreadable)


def _promised_alone(resource: Resource, bodies: Sequence[bytes], limits: Limits) -> pa.Table:
    """Read pages that contain only promised keys, as nearly all do."""
    # A shorter body cannot contain a row that is too long, so its rows need no measuring.
    if any(len(body) > limits.max_row_bytes for body in bodies):
        raise ValueError("a row may be too long")
    promised = resource.promised_type()
    if _holds_json(promised):
        raise ValueError("Arrow does not keep the text of JSON")
    return _checked(resource, _parsed(resource, bodies, promised))


def _promised_and_more(resource: Resource, bodies: Sequence[bytes], limits: Limits) -> pa.Table:
    """Read pages whose rows are as promised, but have further keys."""
    rows = [row for body in bodies for row in rows_with_more(resource, body, limits)]
    return _table(resource, rows)


def _table(resource: Resource, rows: list[Any]) -> pa.Table:
    page = orjson.dumps({resource.list_key: rows})
    return _checked(resource, _parsed(resource, [page], _with_more(resource.promised_type())))


def _parsed(resource: Resource, bodies: Sequence[bytes], row: pa.StructType) -> pa.Table:
    longest = max(map(len, bodies), default=0) + 1
    joined = b"\n".join(bodies)
    _check_utf8(joined)
    pages = pj.read_json(
        pa.BufferReader(joined),
        read_options=pj.ReadOptions(use_threads=False, block_size=max(_BLOCK, longest)),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema({resource.list_key: pa.list_(row), NEXT_CURSOR: TEXT}),
            # Not "infer": Arrow would type a column by the rows of one batch, and turn long whole
            # numbers into floats and texts that look like times into times.
            unexpected_field_behavior="error",
            # By default Arrow ends a document at a line break, of which a pretty-printed page has
            # hundreds.
            newlines_in_values=any(b"\n" in body or b"\r" in body for body in bodies),
        ),
    )
    lists = pages[resource.list_key]
    # Arrow silently drops an empty body between two line breaks, and reads a body with two
    # documents as two pages.
    if len(lists) != len(bodies) or lists.null_count:
        raise ValueError("a page without its list")
    rows = pa.concat_arrays([pc.list_flatten(chunk) for chunk in lists.chunks])
    if rows.null_count:
        raise ValueError("a row that is null")
    rows = pc.cast(rows, _with_more(resource.promised_type()))
    return pa.Table.from_struct_array(_with_instants(rows, resource.instants()))


def _check_utf8(text: bytes) -> None:
    """Raise ValueError for invalid UTF-8, which Arrow's parser would accept."""
    # `text.decode()` would take ten times as long: it also builds the string.
    ends = pa.array([0, len(text)], pa.int64()).buffers()[1]
    whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(text)])
    whole.cast(pa.large_string())


@cache
def _with_more(kind: pa.DataType) -> pa.DataType:
    """Return the type of decoded rows: JSON is text, and each object has `MORE_KEY`."""
    if pa.types.is_struct(kind):
        fields = [(item.name, _with_more(item.type)) for item in kind]
        return pa.struct([*fields, (MORE_KEY, TEXT)])
    if pa.types.is_list(kind):
        return pa.list_(_with_more(kind.value_type))
    return TEXT if kind == JSON else kind


def _holds_json(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _holds_json(kind.value_type)
    return kind == JSON or (
        pa.types.is_struct(kind) and any(_holds_json(item.type) for item in kind)
    )


def _with_instants(objects: pa.StructArray, paths: Iterable[Path]) -> pa.StructArray:
    below: dict[str, list[Path]] = {}
    for first, *rest in paths:
        below.setdefault(first, []).append(tuple(rest))
    fields = {item.name: objects.field(item.name) for item in objects.type}
    for name, rests in below.items():
        column = fields[name]
        fields[name] = _with_instants(column, rests) if any(rests) else instants(column)
    # Without a mask, `from_arrays` would turn a null object into one whose keys are null.
    mask = pc.is_null(objects) if objects.null_count else None
    return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=mask)


def _checked(resource: Resource, rows: pa.Table) -> pa.Table:
    """Return rows that have all their keys; raises ValueError for any others."""
    if rows[KEY].null_count or (resource.windowed and rows[CURSOR].null_count):
        raise ValueError("a row without its key")
    # To a merge, "" is a key like any other: rows that share it would replace one another.
    if pc.any(pc.equal(rows[KEY], "")).as_py():
        raise ValueError("a row with an empty key")
    for path in {part.path for part in resource.parts if part.path}:
        _check_keys(_column_at(rows, path))
    return rows


def _column_at(rows: pa.Table, path: Path) -> pa.ChunkedArray:
    column = rows[path[0]]
    return pc.struct_field(column, list(path[1:])) if path[1:] else column


def _check_keys(objects: pa.ChunkedArray) -> None:
    if pa.types.is_list(objects.type):
        objects = pc.list_flatten(objects)
        if objects.null_count:
            raise ValueError("a list with null")
    keys = pc.struct_field(objects, KEY)
    # Kleene's "or": the plain one returns null for "is null, or null = ''", and null is not true.
    keyless = pc.or_kleene(pc.is_null(keys), pc.equal(keys, ""))
    if pc.any(pc.and_(pc.is_valid(objects), keyless)).as_py():
        raise ValueError("an object without its key")
