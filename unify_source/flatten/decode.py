"""Page bodies in, one nested Arrow table out; rows that break the API's promises are set aside.

Pure. The usual path makes no Python object per row: all bodies are parsed, typed and checked by
Arrow at once. Only when that finds something odd are the rows looked at one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from unify_source.errors import BrokenPage
from unify_source.flatten.row_by_row import Unreadable, examine, with_one_type_each
from unify_source.resources import CURSOR, INSTANT, JSON, KEY, TEXT, Resource

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Batch:
    """Rows in the order in which they were read, and those that could not be read as promised.

    `rows` has the enrollment's own keys as columns; nested objects are structs, unknown fields
    keep the type that Arrow found, and what the tables promise as an instant is one.
    """

    rows: pa.Table
    unreadable: list[Unreadable] = field(default_factory=list)


def decode(resource: Resource, bodies: Sequence[bytes]) -> Batch:
    """Read pages (JSON objects with the list of the resource) as one batch.

    Raises BrokenPage for a body that is no such page.
    """
    try:
        rows = _read(resource, [_one_line(body) for body in bodies])
        if _as_promised(resource, rows):
            return Batch(_with_instants(resource, rows))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        pass
    return _decode_row_by_row(resource, bodies)


def _one_line(body: bytes) -> bytes:
    # Raw line breaks can only stand between JSON tokens: inside a string they are escaped.
    return body.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in body else body


def _read(resource: Resource, lines: list[bytes]) -> pa.Table:
    key = resource.list_key
    promised = _parsed_type(resource.promised_type())
    table = _parse(key, lines, promised)
    found = table.schema.field(key).type.value_type
    if (learned := _times_as_text(promised, found)) != promised:
        table = _parse(key, lines, learned)
    pages_read = table[key]
    if len(pages_read) != len(lines) or pages_read.null_count:
        raise pa.ArrowInvalid("a page without its list")
    chunks = [pc.list_flatten(chunk) for chunk in pages_read.chunks]
    if any(chunk.null_count for chunk in chunks):
        raise pa.ArrowInvalid("a row that is null")
    rows = pa.Table.from_struct_array(pa.chunked_array(chunks, type=pages_read.type.value_type))
    # Arrow makes an array of wrong length of a list of empty objects.
    rows.validate()
    return rows


def _parsed_type(kind: pa.DataType) -> pa.DataType:
    # What is promised as JSON comes as its text: Arrow refuses it as anything else.
    if pa.types.is_struct(kind):
        return pa.struct([(item.name, _parsed_type(item.type)) for item in kind])
    if pa.types.is_list(kind):
        return pa.list_(_parsed_type(kind.value_type))
    return TEXT if kind == JSON else kind


def _parse(key: str, lines: list[bytes], row: pa.StructType) -> pa.Table:
    longest = max(map(len, lines), default=0) + 1
    return pj.read_json(
        pa.BufferReader(b"\n".join(lines)),
        read_options=pj.ReadOptions(use_threads=False, block_size=max(_BLOCK, longest)),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema({key: pa.list_(row)}),
            unexpected_field_behavior="infer",
        ),
    )


def _times_as_text(promised: pa.StructType, found: pa.StructType) -> pa.StructType:
    # Arrow reads a new field "2026-01-31" as a time without a zone, and its spelling is gone.
    fields = {item.name: item.type for item in promised}
    for item in found:
        kind = item.type
        if pa.types.is_temporal(kind):
            fields[item.name] = TEXT
        elif pa.types.is_struct(kind):
            known = fields.get(item.name, pa.struct([]))
            if (learned := _times_as_text(known, kind)) != known:
                fields[item.name] = learned
        elif pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
            known = fields.get(item.name, pa.list_(pa.struct([])))
            if (learned := _times_as_text(known.value_type, kind.value_type)) != known.value_type:
                fields[item.name] = pa.list_(learned)
        elif pa.types.is_list(kind) and pa.types.is_temporal(kind.value_type):
            fields[item.name] = pa.list_(TEXT)
    return pa.struct(list(fields.items()))


def _as_promised(resource: Resource, rows: pa.Table) -> bool:
    if rows[KEY].null_count or rows[CURSOR].null_count or _any(pc.equal(rows[KEY], "")):
        return False
    paths = {part.path for part in resource.parts if part.path}
    return all(_keys_present(_column_at(rows, path)) for path in paths)


def _keys_present(objects: pa.ChunkedArray) -> bool:
    if pa.types.is_list(objects.type):
        objects = pc.list_flatten(objects)
        if objects.null_count:
            return False
    keys = pc.struct_field(objects, KEY)
    keyless = pc.or_kleene(pc.is_null(keys), pc.equal(keys, ""))
    return not _any(pc.and_(pc.is_valid(objects), keyless))


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def _column_at(rows: pa.Table, path: tuple[str, ...]) -> pa.ChunkedArray:
    column = rows[path[0]]
    return pc.struct_field(column, list(path[1:])) if path[1:] else column


def _with_instants(resource: Resource, rows: pa.Table) -> pa.Table:
    for path in resource.instants():
        rows = _with_instant(rows, path)
    return rows


def _with_instant(rows: pa.Table, path: tuple[str, ...]) -> pa.Table:
    top = path[0]
    index = rows.schema.get_field_index(top)
    chunks = [_cast_at(chunk, path[1:]) for chunk in rows[top].chunks]
    kind = chunks[0].type if chunks else _cast_at(pa.array([], rows[top].type), path[1:]).type
    return rows.set_column(index, top, pa.chunked_array(chunks, type=kind))


def _cast_at(column: pa.Array, path: tuple[str, ...]) -> pa.Array:
    if not path:
        return pc.cast(column, INSTANT)
    fields = {item.name: column.field(item.name) for item in column.type}
    fields[path[0]] = _cast_at(fields[path[0]], path[1:])
    return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=pc.is_null(column))


def _decode_row_by_row(resource: Resource, bodies: Iterable[bytes]) -> Batch:
    readable: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    for row in _rows(resource, bodies):
        odd = examine(resource, row)
        if odd is None and (odd := _refused_by_arrow(resource, row)) is None:
            readable.append(row)
        elif odd is not None:
            unreadable.append(odd)
    page = {resource.list_key: with_one_type_each(resource, readable)}
    rows = _read(resource, [json.dumps(page).encode()])
    return Batch(_with_instants(resource, rows), unreadable)


def _refused_by_arrow(resource: Resource, row: dict[str, Any]) -> Unreadable | None:
    try:
        page = {resource.list_key: with_one_type_each(resource, [row])}
        _read(resource, [json.dumps(page).encode()])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        return Unreadable.of(row, f"cannot be read: {str(error)[:200]}")
    return None


def _rows(resource: Resource, bodies: Iterable[bytes]) -> Iterator[Any]:
    for body in bodies:
        try:
            page = json.loads(body)
            yield from page[resource.list_key]
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenPage(
                f"The API sent a page that cannot be read ({type(error).__name__}: {error}).",
                "Nothing is lost: run it again. If it stays so, the API changed: please report it.",
            ) from None
