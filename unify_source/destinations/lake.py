"""Loads into a lake: held whole until their end, then made ready for a merge by key alone.

dlt merges Delta and Iceberg tables by the primary key and by nothing else. Two rows with one key it
refuses or keeps both, and it takes away only rows that are named by their keys, on Iceberg none. So
the rows of one load wait for its last batch. Then the newest of each key goes on, and the keys that
stand in the lake are looked at: what belonged to an enrollment, and does no longer, is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from unify_source.destinations.comments.lakes import describe, described
from unify_source.dlt_seam import running_pipeline
from unify_source.flatten.shared import Carried
from unify_source.flatten.tables import marked_deleted
from unify_source.resources import AS_OF, DELETED, KEY, KNOWN_AS_OF, TEXT, Table
from unify_source.settings import DELTA, ICEBERG, PARQUET

_KEYS_IN_ONE_DELETE = 1_000
_LOAD = "_load"


def lake_format(caps: DestinationCapabilitiesContext | None, wanted: str) -> str | None:
    """Return the format of the tables in a lake; None where the destination is a database."""
    if not caps or "delete-insert" in (caps.supported_merge_strategies or []):
        return None
    return wanted


class Lake:
    """Merges the rows of one load into a table of a lake, all at once.

    Parquet files take every row as it comes: queries find the newest version of each.
    """

    def __init__(self, table_format: str) -> None:
        self.format = table_format

    def hints(self, *, exists: bool) -> dict[str, Any]:
        """Return how a table is written."""
        if self.format == PARQUET:
            return {"write_disposition": "append", "file_format": PARQUET}
        # dlt merges into an Iceberg table by a thousand rows at a time, however many are new.
        if self.format == ICEBERG and not exists:
            return {"write_disposition": "append", "table_format": self.format}
        merge = {"disposition": "merge", "strategy": "upsert"}
        return {"write_disposition": merge, "table_format": self.format}

    def opened(self, table: Table) -> Any:
        """Open a table, described as it is today; None where it does not exist.

        dlt stores the schema before it makes the tables: a run that died may have made some only.
        """
        opened = _opened(self.format, table.name)
        if opened is not None and self.format != PARQUET:
            describe(opened, self.format, table, running_pipeline().dataset_name)
        return opened

    def ready(self, table: Table, opened: Any, batches: list[pa.Table]) -> pa.Table:
        """Return what has to be written of all the rows of a load, perhaps no row."""
        # Batches differ in the new columns that they bring.
        rows = pa.concat_tables(batches, promote_options="default")
        if self.format == PARQUET:
            return rows
        if opened is None:
            return described(self._merged(table, rows, None), self.format, table)
        return self._merged(table, rows, opened)

    def _merged(self, table: Table, rows: pa.Table, opened: Any) -> pa.Table:
        newest = newest_of_each(rows, table.newest)
        if self.format == ICEBERG and opened is not None:
            _widen(opened, newest)
        if DELETED not in rows.schema.names:
            return newest
        deleted = pc.fill_null(newest[DELETED], fill_value=False)
        # A mark means something to a merge alone: appended to a lake, a marked row is just a row.
        living = newest.filter(pc.invert(deleted))
        if opened is None:
            return living
        gone = _gone(_standing(self.format, opened, table), table, rows, living)
        if self.format == ICEBERG:
            delete_keys(opened, gone[KEY].to_pylist())
            return living
        return pa.concat_tables([living, marked_deleted(table, gone)], promote_options="default")


def newest_of_each(rows: pa.Table, newest: str, key: str = KEY) -> pa.Table:
    """Return one row of each key: the newest, of several the last."""
    number = pa.array(range(len(rows)), pa.int64())
    # Arrow's group_by promises no order and has no "row of the maximum": the rows are ranked, and
    # the least rank of each key is taken.
    order = pc.sort_indices(
        pa.table({"at": _when(rows, newest), "number": number}),
        sort_keys=[("at", "descending"), ("number", "descending")],
    )
    ranked = pa.table({key: rows[key].take(order), "rank": number})
    firsts = ranked.group_by(key).aggregate([("rank", "min")])["rank_min"]
    return rows.take(order.take(firsts))


def _when(rows: pa.Table, newest: str) -> pa.ChunkedArray:
    # Where `known_as_of` is, 0.1.0 wrote `_as_of`.
    return pc.coalesce(*(rows[name] for name in (newest, AS_OF) if name in rows.schema.names))


def standing(table: Table, loads: Mapping[str, list[pa.Table]]) -> pa.Table:
    """Return the rows that stand of all that was written to Parquet files, load by load."""
    written = [
        rows.append_column(_LOAD, pa.repeat(load, len(rows)))
        for load in sorted(loads)
        for rows in loads[load]
    ]
    rows = pa.concat_tables(written, promote_options="default")
    if owner := table.dies_with:
        # Only what the owner carried last: a reply that it lost stands nowhere but in older files.
        at = [owner, table.newest, _LOAD]
        last = newest_of_each(rows, table.newest, owner).select(at)
        numbered = rows.select(at).append_column("row", pa.array(range(len(rows)), pa.int64()))
        carried = numbered.join(last, at, join_type="left semi")["row"]
        rows = rows.take(pc.take(carried, pc.sort_indices(carried)))
    rows = newest_of_each(rows, table.newest).drop_columns([_LOAD])
    if DELETED not in rows.schema.names:
        return rows
    return rows.filter(pc.invert(pc.fill_null(rows[DELETED], fill_value=False)))


def _gone(standing: pa.Table, table: Table, rows: pa.Table, living: pa.Table) -> pa.Table:
    """Return the standing rows that the loaded ones replace without having their keys."""
    owner = table.dies_with or KEY
    touched = pc.is_in(standing[owner], value_set=rows[owner].combine_chunks())
    kept = pc.is_in(standing[KEY], value_set=living[KEY].combine_chunks())
    return standing.filter(pc.and_not(touched, kept))


def _opened(table_format: str, name: str) -> Any:
    """Open a table of the running pipeline in its own library (of files, list them); or None."""
    client = _running_client()
    if name not in client.schema.tables:
        return None
    try:
        if table_format == PARQUET:
            return client.list_table_files(name) or None
        return client.load_open_table(table_format, name)
    except DestinationUndefinedEntity:
        return None


def _running_client() -> Any:
    client = running_pipeline().destination_client()
    # Until a load is committed the pipeline has no schema, though tables may stand in the lake that
    # a first load made before it died.
    client.schema = dlt.current.source_schema()
    return client


def _standing(table_format: str, opened: Any, table: Table) -> pa.Table:
    columns = tuple(dict.fromkeys([KEY, table.dies_with or KEY]))
    return _rows_with(table_format, opened, columns, not_null=KEY)


def carried_in_lake(table: Table, listed: Table, column: str) -> list[Carried]:
    """Return the rows of a table that a listed row refers to by a column, and another row owns."""
    client = _running_client()
    if not {table.name, listed.name} <= client.schema.tables.keys():
        return []
    kind = client.prepare_load_table(listed.name).get("table_format")
    if kind not in (DELTA, ICEBERG):
        return []
    owner = str(table.dies_with)
    try:
        stored = _rows_with(kind, client.load_open_table(kind, table.name), (KEY, owner), KEY)
        carriers = client.load_open_table(kind, listed.name)
    except DestinationUndefinedEntity:
        return []
    carriers = _rows_with(kind, carriers, (KEY, column), not_null=column)
    pairs = carriers.rename_columns(["carrier", KEY]).join(stored, KEY, join_type="inner")
    others = pairs.filter(pc.not_equal(pairs["carrier"], pairs[owner]))
    rows = zip(*(others[name].to_pylist() for name in (KEY, owner, "carrier")), strict=True)
    return [Carried(table.name, *row) for row in rows]


def _rows_with(table_format: str, opened: Any, columns: tuple[str, ...], not_null: str) -> pa.Table:
    """Return the rows in which a column is not null, in these columns, as text."""
    if table_format == ICEBERG:
        from pyiceberg.expressions import NotNull  # noqa: PLC0415 - an extra

        scan = opened.scan(row_filter=NotNull(not_null), selected_fields=columns)
        rows = scan.to_arrow()
    else:
        rows = opened.to_pyarrow_dataset().to_table(list(columns), pc.field(not_null).is_valid())
    return rows.select(columns).cast(pa.schema([pa.field(name, TEXT) for name in columns]))


def _widen(opened: Any, rows: pa.Table) -> None:
    known = opened.schema().column_names
    if AS_OF in known and AS_OF not in rows.schema.names:
        # Its name in 0.1.0. An upsert fails for a column that the table has and the rows have not.
        with opened.update_schema() as update:
            update.rename_column(AS_OF, KNOWN_AS_OF)
    # An upsert compares with the columns that the last snapshot had, and fails for a new one:
    # https://github.com/apache/iceberg-python/issues/3105
    elif set(rows.schema.names) <= set(known):
        return
    with opened.update_schema() as update:
        update.union_by_name(rows.schema)
    opened.append(rows.slice(0, 0))


def delete_keys(opened: Any, keys: list[str]) -> None:
    """Delete the rows of an Iceberg table that have these keys."""
    # Before the load is committed, for dlt takes nothing away from an Iceberg table. They are gone
    # from the API all the same, whatever becomes of the load.
    from pyiceberg.expressions import In  # noqa: PLC0415 - an extra

    for start in range(0, len(keys), _KEYS_IN_ONE_DELETE):
        opened.delete(In(KEY, keys[start : start + _KEYS_IN_ONE_DELETE]))
