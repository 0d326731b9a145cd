"""Prepares the rows of one table for dlt, as this run's destination needs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from unify_source.destinations.formats import (
    CSV,
    file_format,
    format_without_rows,
    has_json_columns,
    storable,
)
from unify_source.destinations.lakes.merge import Lake, lake_format
from unify_source.dlt_seam import capabilities, without_rows
from unify_source.errors.notices import Notices
from unify_source.flatten.tables import empty, with_account
from unify_source.load.asked.asked import Asked
from unify_source.load.asked.contracts import DISCARD_ROW, EVOLVE, Contract
from unify_source.load.hints import add_hints, json_as_text, merge_disposition, new_columns
from unify_source.resources import Table
from unify_source.settings import Settings


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
        self._is_first = True

    def items(self, batches: Iterator[pa.Table | None]) -> Iterator[Any]:
        """Yield what dlt writes; a table that does not exist yet is yielded without rows.

        None among the batches goes to dlt, which then asks another resource.
        """
        if self._lake:
            # A lake's merge needs every version of a row at once, hence the list: see `Lake`.
            yield from self._into_lake(self._lake, [rows for rows in batches if rows is not None])
            return
        yield from map(self._ready, batches)
        if self._is_first and not self._known:
            rows = without_rows(with_account(empty(self._table), self._account))
            # dlt writes CSV straight from Arrow, and warns about other formats. CSV does not
            # distinguish empty text from null, but there are no rows.
            self._add_hints(self._columns, CSV if format_without_rows(self._caps) else None)
            yield rows

    def _ready(self, rows: pa.Table | None) -> pa.Table | None:
        if rows is None:
            return None
        self._is_first = False
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
        """Return what the table's contract allows of rows, after the steps that a user added."""
        if not isinstance(rows, pa.Table) or self._contract.is_open:
            return rows
        rows, discarded = self._contract.kept(rows)
        for column, mode in discarded.items():
            what = "rows" if mode == DISCARD_ROW else "values"
            self._notices.add(
                f"{self._table.name} has no column {column}, and schema_contract is {mode!r}: this"
                f" run discards the {what} that need it, and no later run reads them again. To load"
                " them, remove the contract and run with refresh='drop_data'.",
                always=True,
            )
        if variants := self._contract.variants(rows.schema):
            add_hints(self._resource, columns=variants)
        return rows

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
            write_disposition=merge_disposition(self._table, self._account),
            file_format=how,
        )

    def _into_lake(self, lake: Lake, batches: list[pa.Table]) -> Iterator[Any]:
        opened = lake.opened(self._table)
        exists = opened is not None
        if not batches and exists:
            return
        rows = lake.ready(self._table, opened, batches or [empty(self._table)])
        if len(rows) or not exists:
            rows = rows if len(rows) else without_rows(rows)
            hints = lake.hints(opened)
            add_hints(self._resource, columns=self._new_columns(rows) or None, **hints)
            yield rows
