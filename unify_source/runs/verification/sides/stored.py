"""The destination's side: streams every table into the scratch database as digests."""

from __future__ import annotations

from functools import reduce

import dlt
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import (
    BY_NAME,
    CURSOR,
    INSTANT,
    KEY,
    LISTS,
    MISSING_SINCE,
    TEXT,
    Table,
)
from unify_source.common.settings import Settings
from unify_source.extract.window import Window
from unify_source.load.schema.warehouse import Warehouse
from unify_source.runs.verification.sides.buckets import Buckets, parent_of
from unify_source.runs.verification.sides.rows import batches
from unify_source.runs.verification.sides.scratch import COMPARED, STORED, Scratch, typed

ROOTS = tuple(resource.parts[0].table for resource in LISTS)
"""The tables whose rows can be asked for by id, that of the main list first."""


def read_stored(
    pipeline: dlt.Pipeline,
    warehouse: Warehouse,
    columns: dict[str, set[str]],
    window: Window,
    settings: Settings,
    scratch: Scratch,
    *,
    is_whole: bool,
) -> None:
    """Read all tables, digesting only the columns that the API has too.

    Buckets that are equal by the destination's sums are skipped, if all of the API was read.
    """
    buckets = Buckets(pipeline, scratch, settings.account)
    counted = {
        table.name: _counted(table, warehouse, columns.get(table.name, set()))
        for table in map(BY_NAME.__getitem__, COMPARED)
        if warehouse.has(table.name)
    }
    for name, types in counted.items() if is_whole else ():
        buckets.compare(name, types)
    # Children before the rows that they refer to, so that a row loaded meanwhile is no orphan.
    for name, types in reversed(counted.items()):
        table = BY_NAME[name]
        owner = {table.dies_with: "text"} if table.dies_with else {}
        where = buckets.condition(table)
        for rows in batches(pipeline, name, {**types, **owner}, where, settings.account):
            scratch.add(STORED, name, rows, types, **_seen(table, rows, window, settings))


def _counted(table: Table, warehouse: Warehouse, shown: set[str]) -> dict[str, str]:
    known = {*table.schema().names, *shown}
    return {name: kind for name, kind in warehouse.content(table).items() if name in known}


def _seen(
    table: Table, rows: pa.Table, window: Window, settings: Settings
) -> dict[str, pa.ChunkedArray]:
    names = rows.schema.names
    seen = {}
    is_listed = table in ROOTS
    if is_listed or table.dies_with:
        seen["owner"] = typed(rows[table.dies_with or KEY], TEXT)
    if parent := parent_of(table):
        seen["parent"] = typed(rows[parent.name], TEXT)
    if CURSOR in names:
        seen["moment"] = typed(rows[CURSOR], INSTANT)
    if table is ROOTS[0]:
        seen["inside"] = _inside(rows, seen["moment"], window, settings)
    elif MISSING_SINCE in names:
        # A row that is marked as missing is not expected in the list.
        seen["inside"] = pc.is_null(rows[MISSING_SINCE])
    return seen


def _inside(rows: pa.Table, at: pa.ChunkedArray, window: Window, settings: Settings) -> pa.Array:
    """Tell which stored rows the list would show for the window and the filters."""
    conditions = [pc.less_equal(at, pa.scalar(window.before, INSTANT))]
    if window.after:
        conditions.append(pc.greater_equal(at, pa.scalar(window.after, INSTANT)))
    for name in {name for name, _ in settings.filters}:
        values = [value for other, value in settings.filters if other == name]
        conditions.append(pc.is_in(typed(rows[name], TEXT), value_set=pa.array(values, TEXT)))
    return reduce(pc.and_kleene, conditions)
