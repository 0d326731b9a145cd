"""Prepares the rows of one table for dlt, as this run's destination needs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.extract import DltResource

from unify_source.common.dlt_seam import capabilities, is_mark, is_written, without_rows
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import KEY, Table
from unify_source.common.settings import Settings
from unify_source.destinations.formats import (
    CSV,
    INSERTS,
    file_format,
    format_without_rows,
    has_json_columns,
    storable,
)
from unify_source.destinations.lakes.merge import Lake, lake_format
from unify_source.flatten.tables import as_stored, empty, with_account
from unify_source.load.asked.asked import Asked
from unify_source.load.schema.contracts import DISCARD_ROW, EVOLVE, Contract
from unify_source.load.schema.hints import add_hints, json_as_text, merge_disposition, new_columns


class TableWriter:
    """Yields the rows of one table, and gives its resource the hints that the destination decides.

    What is `asked` is known with the first batch.
    """

    def __init__(
        self,
        table: Table,
        resource: DltResource,
        settings: Settings,
        asked: Asked,
        notices: Notices | None = None,
    ) -> None:
        caps = capabilities()
        self._resource, self._asked = resource, asked
        self._caps = caps
        self._table = table
        self._account = settings.account
        kind = lake_format(caps, settings.table_format)
        self._lake = Lake(kind, settings.account) if kind else None
        self._known = dict(dlt.current.source_schema().tables.get(table.name, {}))
        self._notices = notices or Notices()
        self._columns = {} if has_json_columns(caps) else json_as_text(table)
        self._has_read = False
        self._exists = bool(self._known)

    def items(self, batches: Iterator[pa.Table | None]) -> Iterator[Any]:
        """Yield what dlt writes; a table that does not exist yet is yielded without rows.

        None among the batches goes to dlt, which then asks another resource.
        """
        if self._lake:
            # A lake's merge needs every version of a row at once, hence the list: see `Lake`.
            yield from self._into_lake(self._lake, [rows for rows in batches if rows is not None])
        else:
            yield from map(self._ready, batches)
        if not self._exists and not self._has_read:
            yield self._without_rows()
        if not self._exists:
            # A user's step may have dropped every row, but not this mark: see `allowed`.
            yield dlt.mark.materialize_table_schema()

    def _ready(self, rows: pa.Table | None) -> pa.Table | None:
        if rows is None:
            return None
        self._has_read = True
        rows = with_account(storable(self._caps, rows), self._account)
        how = (
            # dlt itself may discard what a user's step has turned into another type.
            (format_without_rows(self._caps) if self._contract.discards_rows else None)
            or self._asked.hints.get(self._table.name, {}).get("file_format")
            or file_format(self._caps, self._known)
        )
        self._add_hints({**self._columns, **self._new_columns(rows)}, how)
        return rows

    def allowed(self, rows: Any) -> Any:
        """Return what the table's contract allows of rows, after the steps that a user added.

        The mark of a table that does not exist yet becomes a table without rows.
        """
        if is_mark(rows):
            return None if self._exists else self._without_rows()
        if isinstance(rows, pa.Table) and not self._contract.is_open:
            rows = self._governed(rows)
        self._exists = self._exists or is_written(rows)
        return rows

    def _governed(self, rows: pa.Table) -> pa.Table:
        kept, discarded = self._contract.kept(rows)
        for column, mode in discarded.items():
            what = "rows" if mode == DISCARD_ROW else "values"
            self._notices.add(
                f"{self._table.name} has no column {column}, and schema_contract is {mode!r}: this"
                f" run discards the {what} that need it, and no later run reads them again. To load"
                " them, remove the contract and run with refresh='drop_data'.",
                always=True,
            )
        if variants := self._contract.variants(kept.schema):
            add_hints(self._resource, columns=variants)
        if self._table.dies_with and not self._lake and len(kept) < len(rows):
            # The merge replaces all rows of an owner, and would delete the stored version.
            lost = rows.filter(pc.invert(pc.is_in(rows[KEY], kept[KEY].combine_chunks())))
            kept = pa.concat_tables([kept, as_stored(lost.select(kept.column_names))])
        return kept

    @property
    def _contract(self) -> Contract:
        return self._asked.contract(self._table.name)

    def _new_columns(self, rows: pa.Table) -> dict[str, Any]:
        # Those that the contract does not allow may never be added.
        added = [each for each in rows.schema if self._contract.mode(each) == EVOLVE]
        return new_columns(pa.schema(added))

    def _add_hints(self, columns: dict[str, Any], how: str | None) -> None:
        if how:
            self._asked.chosen[self._table.name] = how
        add_hints(
            self._resource,
            columns=columns or None,
            # The run's disposition replaces the table's, and has no scope.
            write_disposition=merge_disposition(
                self._table, self._account, leaves_marked=self._contract.discards_rows
            ),
            file_format=how,
        )

    def _into_lake(self, lake: Lake, batches: list[pa.Table]) -> Iterator[Any]:
        opened = lake.opened(self._table)
        self._exists, self._has_read = opened is not None, bool(batches)
        if batches and len(rows := lake.ready(self._table, opened, batches)):
            hints = lake.hints(opened)
            add_hints(self._resource, columns=self._new_columns(rows) or None, **hints)
            yield rows

    def _without_rows(self) -> pa.Table:
        rows = empty(self._table)
        if self._lake:
            add_hints(self._resource, **self._lake.hints(None))
            return without_rows(self._lake.ready(self._table, None, [rows]))
        # dlt writes CSV straight from Arrow, and warns about other formats. CSV does not
        # distinguish empty text from null, and rows that other threads handle may hold either.
        how = INSERTS if self._has_read else CSV
        self._add_hints(self._columns, how if format_without_rows(self._caps) else None)
        return without_rows(with_account(rows, self._account))
