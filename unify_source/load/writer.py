"""Prepares the rows of one table for dlt, as this run's destination needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from unify_source.flatten.tables import empty, with_account
from unify_source.load.hints import (
    add_hints,
    json_as_text,
    merge_disposition,
    new_columns,
)
from unify_source.resources import Table
from unify_source.settings import Settings


class TableWriter:
    """Yields the rows of one table, and gives its resource the hints that the destination decides.

    `hints` are those of each table in this run, which are known with the first batch. The formats
    of files go to `chosen`, by table.
    """

    def __init__(
        self,
        table: Table,
        resource: DltResource,
        settings: Settings,
        hints: Mapping[str, Any],
        chosen: dict[str, str],
    ) -> None:
        caps = capabilities()
        self._resource, self._chosen = resource, chosen
        self._caps = caps
        self._table = table
        self._account = settings.account
        kind = lake_format(caps, settings.table_format)
        self._lake = Lake(kind, settings.account) if kind else None
        self._known = dict(dlt.current.source_schema().tables.get(table.name, {}))
        self._hints = hints
        self._format_without_rows = format_without_rows(caps) if _may_lose_all_rows(table) else None
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
            self._format_without_rows
            or self._hints.get(self._table.name, {}).get("file_format")
            or file_format(self._caps, self._known)
        )
        self._add_hints({**self._columns, **new_columns(rows)}, how)
        return rows

    def _add_hints(self, columns: dict[str, Any], how: str | None) -> None:
        if how:
            self._chosen[self._table.name] = how
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
            add_hints(self._resource, columns=new_columns(rows) or None, **hints)
            yield rows


def _may_lose_all_rows(table: Table) -> bool:
    # A contract is applied last, and can leave a batch without a row.
    contract = dlt.current.source_schema().resolve_contract_settings_for_table(table.name)
    return "discard_row" in contract.values()
