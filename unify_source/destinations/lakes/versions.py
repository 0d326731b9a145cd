"""Finds the current rows among all versions of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import AS_OF, DELETED, KEY, Table

_LOAD = "_load"


def newest_of_each(rows: pa.Table, newest: str, key: str = KEY) -> pa.Table:
    """Return the newest row of each key; of several, the last."""
    number = pa.array(range(len(rows)), pa.int64())
    # Arrow's group_by guarantees no order and has no "row of the maximum", so rows are ranked, and
    # the lowest rank of each key is taken.
    order = pc.sort_indices(
        pa.table({"at": _when(rows, newest), "number": number}),
        sort_keys=[("at", "descending"), ("number", "descending")],
    )
    ranked = pa.table({key: rows[key].take(order), "rank": number})
    firsts = ranked.group_by(key).aggregate([("rank", "min")])["rank_min"]
    return rows.take(order.take(firsts))


def _when(rows: pa.Table, newest: str) -> pa.ChunkedArray:
    # 0.1.0 wrote `_as_of` instead of `known_as_of`.
    return pc.coalesce(*(rows[name] for name in (newest, AS_OF) if name in rows.schema.names))


def standing(table: Table, loads: Mapping[str, list[pa.Table]]) -> pa.Table:
    """Return the current rows among all that were written to Parquet files, load by load."""
    written = [
        rows.append_column(_LOAD, pa.repeat(load, len(rows)))
        for load in sorted(loads)
        for rows in loads[load]
    ]
    rows = pa.concat_tables(written, promote_options="default")
    if owner := table.dies_with:
        # Only the owner's last rows: a reply that it has lost is only in older files.
        at = [owner, table.newest, _LOAD]
        last = newest_of_each(rows, table.newest, owner).select(at)
        numbered = rows.select(at).append_column("row", pa.array(range(len(rows)), pa.int64()))
        carried = numbered.join(last, at, join_type="left semi")["row"]
        rows = rows.take(pc.take(carried, pc.sort_indices(carried)))
    rows = newest_of_each(rows, table.newest).drop_columns([_LOAD])
    if DELETED not in rows.schema.names:
        return rows
    return rows.filter(pc.invert(pc.fill_null(rows[DELETED], fill_value=False)))
