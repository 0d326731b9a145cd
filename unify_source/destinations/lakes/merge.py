"""Prepares the rows of a load into a lake, all at once, for a merge by key alone.

dlt merges Delta and Iceberg tables by the primary key and nothing else. It refuses two rows with
the same key, or keeps both, and it deletes rows by key only, in Iceberg none at all. So all rows of
a load are held until its last batch. Then the newest row of each key is written, and rows in the
lake that no longer belong to an enrollment of the load are deleted by key. All rows of a load are
of one account.
"""

from __future__ import annotations

from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import AnyDestination, DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from unify_source.common.dlt_seam import kind_of, running_pipeline
from unify_source.common.resources import AS_OF, DELETED, KEY, KNOWN_AS_OF, TEXT, Table
from unify_source.common.settings import DELTA, ICEBERG, PARQUET
from unify_source.destinations.comments.lakes import describe, described
from unify_source.destinations.lakes.composite import match_at_once
from unify_source.destinations.lakes.near import merge_near
from unify_source.destinations.lakes.tables import Rows, of_format, rows_of
from unify_source.destinations.lakes.versions import newest_of_each
from unify_source.flatten.shared import Carried
from unify_source.flatten.tables import marked_deleted, with_account


def lake_format(caps: DestinationCapabilitiesContext | None, wanted: str) -> str | None:
    """Return the format of a lake's tables; None if the destination is a database."""
    if not caps or "delete-insert" in (caps.supported_merge_strategies or []):
        return None
    return wanted


def merges_by_key(destination: AnyDestination) -> bool:
    """Tell whether a destination is a database or a lake, which merge by all columns of a key."""
    return kind_of(destination) == "filesystem" or not lake_format(
        destination.capabilities(), DELTA
    )


class Lake:
    """Merges the rows of one load into a table of a lake, all at once.

    Parquet files take every row: queries have to find the newest version of each.
    """

    def __init__(self, table_format: str, account: str | None) -> None:
        self.format, self._account = table_format, account
        if table_format == ICEBERG and account:
            match_at_once()

    def hints(self, opened: Any) -> dict[str, Any]:
        """Return the hints for writing a table; `opened` is None if it does not exist yet."""
        if self.format == PARQUET:
            return {"write_disposition": "append", "file_format": PARQUET}
        # dlt merges into an Iceberg table a thousand rows at a time, even if all are new.
        if self.format == ICEBERG and (opened is None or self._is_first_of_account(opened)):
            return {"write_disposition": "append", "table_format": self.format}
        merge = {"disposition": "merge", "strategy": "upsert"}
        return {"write_disposition": merge, "table_format": self.format}

    def opened(self, table: Table) -> Any:
        """Open a table and update its comments; return None if it does not exist.

        dlt stores the schema before it creates the tables, so a run that died may have created only
        some.
        """
        opened = _opened(self.format, table.name)
        if opened is not None and self.format != PARQUET:
            describe(opened, self.format, table, running_pipeline().dataset_name)
        if opened is not None and self.format == DELTA:
            merge_near()
        return opened

    def ready(self, table: Table, opened: Any, batches: list[pa.Table]) -> pa.Table:
        """Return the rows to write of all the rows of a load; there may be none."""
        # Batches differ in their new columns.
        rows = pa.concat_tables(batches, promote_options="default")
        rows = with_account(rows, self._account)
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
        # Only a merge understands the mark: appended to a lake, a marked row is an ordinary row.
        living = newest.filter(pc.invert(deleted))
        if opened is None:
            return living
        stored = of_format(self.format, opened, self._account)
        gone = _gone(_texts(stored, (KEY, table.dies_with or KEY), KEY), table, rows, living)
        if self.format == ICEBERG:
            # Before the load is committed, because dlt deletes nothing from an Iceberg table. If
            # the load fails, the rows are still gone from the API.
            stored.delete(gone[KEY].to_pylist())
            return living
        marked = with_account(marked_deleted(table, gone), self._account)
        return pa.concat_tables([living, marked], promote_options="default")

    def _is_first_of_account(self, opened: Any) -> bool:
        return bool(self._account) and not of_format(ICEBERG, opened, self._account).count()


def _gone(standing: pa.Table, table: Table, rows: pa.Table, living: pa.Table) -> pa.Table:
    """Return the stored rows that loaded rows with other keys replace."""
    owner = table.dies_with or KEY
    touched = pc.is_in(standing[owner], value_set=rows[owner].combine_chunks())
    kept = pc.is_in(standing[KEY], value_set=living[KEY].combine_chunks())
    return standing.filter(pc.and_not(touched, kept))


def _opened(table_format: str, name: str) -> Any:
    """Open a table of the running pipeline with its own library, or list its files; or None."""
    client = _running_client()
    # What was given to a function cannot be opened again.
    if name not in client.schema.tables or not hasattr(client, "load_open_table"):
        return None
    try:
        if table_format == PARQUET:
            return client.list_table_files(name) or None
        return client.load_open_table(table_format, name)
    except DestinationUndefinedEntity:
        return None


def _running_client() -> Any:
    client = running_pipeline().destination_client()
    # Until a load is committed, the pipeline has no schema, but a first load that died may have
    # created tables in the lake.
    client.schema = dlt.current.source_schema()
    return client


def carried_in_lake(table: Table, listed: Table, column: str, account: str | None) -> list[Carried]:
    """Return the rows of a table that a listed row refers to by a column, but another row owns."""
    client = _running_client()
    if listed.name not in client.schema.tables:
        return []
    kind = client.prepare_load_table(listed.name).get("table_format")
    carried, carriers = (rows_of(client, each, account) for each in (table, listed))
    if kind not in (DELTA, ICEBERG) or not carried or not carriers:
        return []
    owner = str(table.dies_with)
    stored = _texts(carried, (KEY, owner), KEY)
    pairs = _texts(carriers, (KEY, column), column).rename_columns(["carrier", KEY])
    pairs = pairs.join(stored, KEY, join_type="inner")
    others = pairs.filter(pc.not_equal(pairs["carrier"], pairs[owner]))
    rows = zip(*(others[name].to_pylist() for name in (KEY, owner, "carrier")), strict=True)
    return [Carried(table.name, *row) for row in rows]


def _texts(rows: Rows, columns: tuple[str, ...], not_null: str) -> pa.Table:
    """Return these columns, as text, of the rows in which another column is not null."""
    names = list(dict.fromkeys(columns))
    schema = pa.schema([pa.field(name, TEXT) for name in names])
    return rows.read(names, not_null).cast(schema)


def _widen(opened: Any, rows: pa.Table) -> None:
    known = opened.schema().column_names
    if AS_OF in known and AS_OF not in rows.schema.names:
        # Its name in 0.1.0. An upsert fails if the table has a column that the rows lack.
        with opened.update_schema() as update:
            update.rename_column(AS_OF, KNOWN_AS_OF)
    # An upsert only knows the columns of the last snapshot, and fails for a new one:
    # https://github.com/apache/iceberg-python/issues/3105
    elif set(rows.schema.names) <= set(known):
        return
    with opened.update_schema() as update:
        update.union_by_name(rows.schema)
    opened.append(rows.slice(0, 0))
