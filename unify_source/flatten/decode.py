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
from unify_source.resources import CURSOR, ENROLLMENT_LIST, INSTANT, KEY, TEXT

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Batch:
    """Rows in the order in which they were read, and those that could not be read as promised.

    `rows` has the enrollment's own keys as columns; nested objects are structs, unknown fields
    keep the type that Arrow found, and what the tables promise as an instant is one.
    """

    rows: pa.Table
    unreadable: list[Unreadable] = field(default_factory=list)


def decode(bodies: Sequence[bytes]) -> Batch:
    """Read pages (JSON objects with the list `enrollments`) as one batch.

    Raises BrokenPage for a body that is no such page.
    """
    try:
        rows = _read([_one_line(body) for body in bodies])
        if _as_promised(rows):
            return Batch(_with_instants(rows))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        pass
    return _decode_row_by_row(bodies)


def _one_line(body: bytes) -> bytes:
    # Raw line breaks can only stand between JSON tokens: inside a string they are escaped.
    return body.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in body else body


def _read(lines: list[bytes]) -> pa.Table:
    promised = ENROLLMENT_LIST.promised_type()
    table = _parse(lines, promised)
    found = table.schema.field("enrollments").type.value_type
    if (learned := _times_as_text(promised, found)) != promised:
        table = _parse(lines, learned)
    pages_read = table["enrollments"]
    if len(pages_read) != len(lines) or pages_read.null_count:
        raise pa.ArrowInvalid("a page without its list")
    chunks = [pc.list_flatten(chunk) for chunk in pages_read.chunks]
    if any(chunk.null_count for chunk in chunks):
        raise pa.ArrowInvalid("a row that is null")
    rows = pa.Table.from_struct_array(pa.chunked_array(chunks, type=pages_read.type.value_type))
    # Arrow makes an array of wrong length of a list of empty objects.
    rows.validate()
    return rows


def _parse(lines: list[bytes], row: pa.StructType) -> pa.Table:
    longest = max(map(len, lines), default=0) + 1
    return pj.read_json(
        pa.BufferReader(b"\n".join(lines)),
        read_options=pj.ReadOptions(use_threads=False, block_size=max(_BLOCK, longest)),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema({"enrollments": pa.list_(row)}),
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


def _as_promised(rows: pa.Table) -> bool:
    if rows[KEY].null_count or rows[CURSOR].null_count or _any(pc.equal(rows[KEY], "")):
        return False
    paths = {part.path for part in ENROLLMENT_LIST.parts if part.path}
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


def _with_instants(rows: pa.Table) -> pa.Table:
    for path in ENROLLMENT_LIST.instants():
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


def _decode_row_by_row(bodies: Iterable[bytes]) -> Batch:
    readable: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    for row in _rows(bodies):
        odd = examine(row)
        if odd is None and (odd := _refused_by_arrow(row)) is None:
            readable.append(row)
        elif odd is not None:
            unreadable.append(odd)
    page = {"enrollments": with_one_type_each(readable)}
    return Batch(_with_instants(_read([json.dumps(page).encode()])), unreadable)


def _refused_by_arrow(row: dict[str, Any]) -> Unreadable | None:
    try:
        _read([json.dumps({"enrollments": with_one_type_each([row])}).encode()])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        return Unreadable.of(row, f"cannot be read: {str(error)[:200]}")
    return None


def _rows(bodies: Iterable[bytes]) -> Iterator[Any]:
    for body in bodies:
        try:
            page = json.loads(body)
            yield from page["enrollments"]
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenPage(
                f"The API sent a page that cannot be read ({type(error).__name__}: {error}).",
                "Nothing is lost: run it again. If it stays so, the API changed: please report it.",
            ) from None
