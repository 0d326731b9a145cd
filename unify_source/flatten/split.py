"""One nested batch in, one Arrow table per warehouse table out. Pure.

What the API promises goes where `tables.py` says. What it does not promise goes along: a new
scalar becomes a column, a new object `parent__child` columns, a new list a JSON column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.flatten.row_by_row import AS_JSON, Unreadable
from unify_source.resources import (
    AS_OF,
    CURSOR,
    DELETED,
    FLAG,
    INSTANT,
    JSON_METADATA,
    KEY,
    QUARANTINE,
    TEXT,
    Column,
    Part,
    Resource,
    Table,
)

JSON = JSON_METADATA

_ZONED = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)$"

KnownType = Callable[[str, str], str | None]
"""(table, column) -> the dlt data type that the column has in the warehouse, None if it is new."""


@dataclass(frozen=True)
class Splitting:
    """How to split: names as the destination writes them, and columns that it already has.

    Without `json_columns` lists stand in columns of text.
    """

    normalize: Callable[[str], str] = lambda name: name
    known_type: KnownType = lambda _table, _column: None
    json_columns: bool = True


def split(
    resource: Resource,
    rows: pa.Table,
    read_at: datetime,
    how: Splitting,
    new: pa.ChunkedArray | None = None,
) -> dict[str, pa.Table]:
    """Split listed rows into the tables of their resource, in its order.

    Every table has its promised columns, typed, then new ones. A sequence, a person, a mailbox or a
    play may stand several times, with an `_as_of` that rises by a microsecond a row from `read_at`
    on: the last row that showed it is right. The tables of replies carry
    a row marked deleted for each enrollment without one, so that what is gone from the API goes
    from the table, but for the rows that `new` says were never loaded before.
    """
    rows = rows.combine_chunks()
    older = rows if new is None else rows.filter(pc.invert(new))
    return {
        part.table.name: _table_of(resource, rows, older, part, read_at, how)
        for part in resource.parts
    }


def quarantined(rows: list[Unreadable], seen_at: datetime) -> pa.Table:
    """Make the quarantine's rows: the enrollment's id, the reason, and the row as it came."""
    columns = {
        KEY: [row.key for row in rows],
        "reason": [row.reason for row in rows],
        "raw": [row.raw for row in rows],
        "seen_at": [seen_at] * len(rows),
        DELETED: [None] * len(rows),
    }
    return pa.table(columns, schema=empty(QUARANTINE).schema)


def released(ids: pa.Array, seen_at: datetime) -> pa.Table:
    """Make rows that take enrollments out of the quarantine."""
    return _tombstones(QUARANTINE, {KEY: ids, "seen_at": _constant(seen_at, len(ids))})


def marked_deleted(table: Table, keys: pa.Table) -> pa.Table:
    """Make rows that take others out of a table, by their keys and what they die with."""
    return _tombstones(table, {name: keys[name] for name in keys.schema.names})


def is_json(item: pa.Field) -> bool:
    """Tell whether a field's text is JSON."""
    return bool(item.metadata) and item.metadata == {
        k.encode(): v.encode() for k, v in JSON.items()
    }


def empty(table: Table) -> pa.Table:
    """Return the table without rows, with every column that a full one has."""
    return _with_merge_columns(table, table.schema().empty_table(), pa.array([], INSTANT))


def _table_of(
    resource: Resource,
    rows: pa.Table,
    older: pa.Table,
    part: Part,
    read_at: datetime,
    how: Splitting,
) -> pa.Table:
    table = part.table
    objects, parents = _objects(rows, part.path)
    read = set(part.columns())
    columns = {
        column.name: _column(rows, objects, parents, column)
        if column in read
        else pa.nulls(len(objects), column.field().type)
        for column in table.columns
    }
    taken = {*columns, AS_OF, DELETED}
    fields = [column.field() for column in table.columns]
    arrays = list(columns.values())
    for name, column, metadata in _new_columns(objects, resource, part, taken, how):
        fields.append(pa.field(name, column.type, metadata=metadata))
        arrays.append(column)
    made = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    if table.dies_with:
        made = _with_merge_columns(table, made, _of(parents, _value_at(rows, (CURSOR,))))
        return _with_childless(made, table, older)
    if table.newest == CURSOR:
        return made
    return _last_of_each(_with_merge_columns(table, made, _rising(read_at, len(made))))


def _column(
    rows: pa.Table, objects: pa.StructArray, parents: pa.Array | None, column: Column
) -> pa.Array:
    if column.path is None:
        return _field(objects, column.name, column.field().type)
    return _of(parents, _value_at(rows, column.path))


def _objects(rows: pa.Table, path: tuple[str, ...]) -> tuple[pa.StructArray, pa.Array | None]:
    """Return the objects at `path`, and for each the index of its row (None: one in each)."""
    whole = _struct(rows)
    if not path:
        return whole, None
    column = pc.struct_field(whole, list(path))
    if pa.types.is_list(column.type):
        return pc.list_flatten(column), pc.list_parent_indices(column)
    if not column.null_count:
        return column, None
    present = pc.is_valid(column)
    return column.filter(present), pc.indices_nonzero(present)


def _of(parents: pa.Array | None, column: pa.Array) -> pa.Array:
    return column if parents is None else column.take(parents)


def _struct(rows: pa.Table) -> pa.StructArray:
    arrays = [_single(column) for column in rows.columns]
    return pa.StructArray.from_arrays(arrays, fields=list(rows.schema)) if arrays else pa.array([])


def _single(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _field(objects: pa.StructArray, name: str, kind: pa.DataType) -> pa.Array:
    if objects.type.get_field_index(name) < 0:
        return pa.nulls(len(objects), kind)
    return pc.struct_field(objects, name)


def _value_at(rows: pa.Table, path: tuple[str, ...]) -> pa.Array:
    column = _single(rows[path[0]])
    return pc.struct_field(column, list(path[1:])) if path[1:] else column


def _constant(instant: datetime, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(instant, INSTANT), length)


def _with_merge_columns(table: Table, made: pa.Table, as_of: pa.Array) -> pa.Table:
    if table.newest == AS_OF:
        made = made.append_column(pa.field(AS_OF, INSTANT), as_of)
    if table.dies_with or table is QUARANTINE:
        for column in table.columns:
            if column.name not in made.schema.names:
                made = made.append_column(column.field(), pa.nulls(len(made), column.type))
        made = made.append_column(pa.field(DELETED, FLAG), pa.nulls(len(made), FLAG))
    return made


def _with_childless(made: pa.Table, table: Table, rows: pa.Table) -> pa.Table:
    owner = str(table.dies_with)
    childless = pc.invert(pc.is_in(rows[KEY], value_set=_single(made[owner])))
    bare = rows.select([KEY, CURSOR]).filter(childless)
    keys = _single(bare[KEY])
    tombstones = _tombstones(table, {KEY: keys, owner: keys, AS_OF: _single(bare[CURSOR])})
    return pa.concat_tables([made, tombstones], promote_options="default")


def _tombstones(table: Table, known: dict[str, pa.Array]) -> pa.Table:
    length = len(known[KEY])
    columns = [
        pa.repeat(pa.scalar(value=True), length)
        if item.name == DELETED
        else known.get(item.name, pa.nulls(length, item.type))
        for item in empty(table).schema
    ]
    return pa.Table.from_arrays(columns, schema=empty(table).schema)


def _last_of_each(table: pa.Table) -> pa.Table:
    # The merge finds the last as well: where most stand once, it is quicker at it.
    if 2 * pc.count_distinct(table[KEY]).as_py() > len(table):
        return table
    numbered = pa.table({KEY: table[KEY], "row": _numbers(len(table))})
    return table.take(numbered.group_by(KEY).aggregate([("row", "max")])["row_max"])


def _rising(instant: datetime, length: int) -> pa.Array:
    start = pa.scalar(instant, INSTANT).cast(pa.int64())
    return pc.add(_numbers(length), start).cast(INSTANT)


def _numbers(length: int) -> pa.Array:
    return pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), length)), 1)


def _new_columns(
    objects: pa.StructArray, resource: Resource, part: Part, taken: set[str], how: Splitting
) -> Iterator[tuple[str, pa.Array, dict[str, str] | None]]:
    below = {other.path[len(part.path)] for other in _below(resource, part)}
    promised = {*(column.name for column in part.own()), *below}
    for path, column in _leaves(objects, promised):
        if pa.types.is_null(column.type):
            continue
        value, metadata = _storable(column)
        metadata = metadata if how.json_columns else None
        name = _free_name(how.normalize("__".join(path) or "unnamed"), taken)
        yield from _conformed(part.table, name, value, metadata, taken, how)


def _below(resource: Resource, part: Part) -> list[Part]:
    depth = len(part.path)
    return [other for other in resource.parts if other.path[:depth] == part.path != other.path]


def _leaves(
    objects: pa.StructArray, skipped: set[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], pa.Array]]:
    for item in objects.type:
        if item.name in skipped:
            continue
        column = pc.struct_field(objects, [objects.type.get_field_index(item.name)])
        names = [below.name for below in item.type] if pa.types.is_struct(item.type) else []
        if names and names != [AS_JSON]:
            yield from _leaves(column, set(), (*above, item.name))
        elif not (pa.types.is_struct(item.type) and not names):
            yield (*above, item.name), column


def _storable(column: pa.Array) -> tuple[pa.Array, dict[str, str] | None]:
    kind = column.type
    if pa.types.is_struct(kind):
        return pc.struct_field(column, AS_JSON), JSON
    if pa.types.is_list(kind):
        texts = (
            None if item is None else orjson.dumps(item).decode() for item in column.to_pylist()
        )
        return pa.array(texts, TEXT), JSON
    if pa.types.is_string(kind) and _all_zoned_times(column):
        return _instants(column), None
    return column, None


def _all_zoned_times(texts: pa.Array) -> bool:
    matches = pc.match_substring_regex(texts, _ZONED)
    if texts.null_count == len(texts) or not pc.all(matches).as_py():
        return False
    return _castable(texts, INSTANT)


def _instants(texts: pa.Array) -> pa.Array:
    return pc.cast(pc.utf8_upper(texts), INSTANT)


def _castable(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        _instants(column) if kind == INSTANT else pc.cast(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken or name.startswith("_dlt_"):
        name = f"x{name}" if name.startswith("_") else f"{name}_x"
    taken.add(name)
    return name


_DLT_TYPES = {"text": TEXT, "bool": FLAG, "bigint": pa.int64(), "double": pa.float64()}


def _dlt_type(kind: pa.DataType, metadata: dict[str, str] | None) -> str:
    if metadata == JSON:
        return "json"
    if kind == INSTANT:
        return "timestamp"
    return next(name for name, arrow in _DLT_TYPES.items() if arrow == kind)


def _conformed(
    table: Table,
    name: str,
    column: pa.Array,
    metadata: dict[str, str] | None,
    taken: set[str],
    how: Splitting,
) -> Iterator[tuple[str, pa.Array, dict[str, str] | None]]:
    """Give a new field the type that its column has by now, else a variant column, as dlt does."""
    found = _dlt_type(column.type, metadata)
    known = how.known_type(table.name, name)
    if known in (None, found) or len(column) == column.null_count:
        if known in (None, found):
            yield name, column, metadata
        return
    if known == "double" and found == "bigint":
        yield name, pc.cast(column, pa.float64()), None
    elif known == "json" or (known == "text" and found in ("bool", "bigint", "double")):
        yield (
            name,
            _as_text(column, quoted=known == "json" and found != "json"),
            (JSON if known == "json" else None),
        )
    elif known == "bigint" and found == "double" and _castable(column, pa.int64()):
        yield name, pc.cast(column, pa.int64()), None
    else:
        yield _free_name(f"{name}__v_{found}", taken), column, metadata


def _as_text(column: pa.Array, *, quoted: bool) -> pa.Array:
    if not quoted:
        return pc.cast(column, TEXT)
    values = column.to_pylist() if column.type != INSTANT else pc.cast(column, TEXT).to_pylist()
    return pa.array((None if v is None else orjson.dumps(v).decode() for v in values), TEXT)
