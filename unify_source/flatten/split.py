"""Splits one nested batch into an Arrow table for each warehouse table. Pure.

Promised fields go where `common/resources/` says, all others to `new_columns`.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import (
    AS_OF,
    CURSOR,
    INSTANT,
    KEY,
    KNOWN_AS_OF,
    Column,
    Part,
    Resource,
    Table,
)
from unify_source.flatten.decode.more import MORE_KEY
from unify_source.flatten.names import Splitting
from unify_source.flatten.new_columns import new_columns
from unify_source.flatten.tables import filled, tombstones, with_merge_columns

SHOWN_BY, SHOWN_AT = "_shown_by", "_shown_at"
"""Where an object was seen: the key and the `updated_at` of the row that nests it."""


def split(
    resource: Resource,
    rows: pa.Table,
    read_at: datetime,
    how: Splitting,
    new: pa.ChunkedArray | None = None,
) -> dict[str, pa.Table]:
    """Split listed rows into the tables of their resource, in its order.

    Every table has its promised columns, typed, then new ones. A sequence, a person, a mailbox or a
    play may appear several times, with a `known_as_of` that rises by a microsecond a row from
    `read_at` on, because the last row that showed it is right. A table whose rows die with the
    listed one gets a row marked deleted for each listed row without any, so that what is gone from
    the API is deleted; not for rows that were never loaded before, according to `new`.
    """
    rows = rows.combine_chunks()
    older = rows if new is None else rows.filter(pc.invert(new))
    tables = {}
    for part in resource.parts:
        flat, _ = _flat(rows, part, how)
        tables[part.table.name] = _for_merge(part.table, flat, older, read_at)
    return tables


def versions(resource: Resource, rows: pa.Table, how: Splitting) -> dict[str, pa.Table]:
    """Split listed rows into one table for each part, with each object as often as it is shown.

    Nothing in them serves a merge. `SHOWN_BY` is the key of the listed row that shows the object,
    `SHOWN_AT` its `updated_at`.
    """
    rows = rows.combine_chunks()
    tables = {}
    for part in resource.parts:
        flat, parents = _flat(rows, part, how)
        flat = flat.append_column(SHOWN_BY, _of(parents, _value_at(rows, (KEY,))))
        tables[part.table.name] = flat.append_column(
            SHOWN_AT, _of(parents, _value_at(rows, (CURSOR,)))
        )
    return tables


def _for_merge(table: Table, flat: pa.Table, older: pa.Table, read_at: datetime) -> pa.Table:
    if table.dies_with:
        return _with_childless(with_merge_columns(table, flat), table, older)
    if table.newest == CURSOR:
        return flat
    return _last_of_each(filled(flat, KNOWN_AS_OF, _rising(read_at, len(flat))))


def _flat(rows: pa.Table, part: Part, how: Splitting) -> tuple[pa.Table, pa.Array | None]:
    """Return the objects of a part with their columns, and for each the index of its row."""
    table = part.table
    objects, parents = _objects(rows, part.path)
    read = set(part.columns())
    columns = {
        column.name: _column(rows, objects, parents, column)
        if column in read
        else pa.nulls(len(objects), column.field().type)
        for column in table.columns
    }
    fields = [column.field() for column in table.columns]
    if not how.json_columns:
        fields = [item.remove_metadata() for item in fields]
    arrays = list(columns.values())
    for item, column in new_columns(table, pc.struct_field(objects, MORE_KEY), how):
        fields.append(item)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields)), parents


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
    # A null object makes no row.
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


def _with_childless(children: pa.Table, table: Table, rows: pa.Table) -> pa.Table:
    owner = str(table.dies_with)
    childless = pc.invert(pc.is_in(rows[KEY], value_set=_single(children[owner])))
    bare = rows.select([KEY, CURSOR]).filter(childless)
    keys = _single(bare[KEY])
    # A tombstone needs a key, but there is no child to name. The owner's id serves: it matches no
    # child, and the merge finds the rows to delete by their owner.
    gone = tombstones(table, {KEY: keys, owner: keys, AS_OF: _single(bare[CURSOR])})
    return pa.concat_tables([children, gone], promote_options="default")


def _last_of_each(table: pa.Table) -> pa.Table:
    # The merge also finds the last, and is faster at it if most keys appear once.
    if 2 * pc.count_distinct(table[KEY]).as_py() > len(table):
        return table
    last = len(table) - 1
    backwards = _single(table[KEY])[::-1]
    # Not `group_by`, with which Arrow imports its file systems: five megabytes.
    firsts = pc.index_in(backwards.unique(), value_set=backwards)
    return table.take(pc.subtract(last, firsts))


def _rising(instant: datetime, length: int) -> pa.Array:
    # Within a load dlt keeps an arbitrary one of two rows that tie, so each is a microsecond newer
    # than the one before.
    before = pa.scalar(instant, INSTANT).cast(pa.int64()).as_py() - 1
    steps = pa.repeat(pa.scalar(1, pa.int64()), length)
    return pc.cumulative_sum(steps, start=before).cast(INSTANT)
