"""Applies dlt's schema contracts to the columns that a table does not have yet.

dlt itself fails at a batch that lacks the column whose values it discarded from the batch before,
and takes a column for values of another type for any new column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.extract import DltResource

from unify_source.common.resources import ALL_TABLES
from unify_source.flatten.new_columns import IS_VARIANT, SOURCE_PATH

EVOLVE, FREEZE, DISCARD_ROW = "evolve", "freeze", "discard_row"


@dataclass(frozen=True)
class Contract:
    """What a table's contract makes of new columns and of values of another type, in dlt's modes.

    `existing` are the hints of the columns that the table has or is promised, by name.
    """

    columns: str = EVOLVE
    data_type: str = EVOLVE
    existing: Mapping[str, Any] = field(default_factory=dict)
    normalize: Callable[[str], str] = str

    @property
    def is_open(self) -> bool:
        """Whether it forbids nothing."""
        return self.columns == self.data_type == EVOLVE

    @property
    def discards_rows(self) -> bool:
        """Whether it may discard all rows of a batch."""
        return DISCARD_ROW in (self.columns, self.data_type)

    @classmethod
    def of(
        cls, schema: dlt.Schema, table: str, asked: Any, promised: Mapping[str, Any]
    ) -> Contract:
        """Return the contract that was `asked` of a table's resource, or else of the source."""
        contract = asked or schema.settings.get("schema_contract") or {}
        modes: Any = schema.expand_schema_contract_settings(contract)
        known: Any = schema.tables.get(table, {})
        # The first load of a table may add any column.
        once = known.get("x-normalizer", {}).get("evolve-columns-once")
        columns = EVOLVE if once or schema.is_new_table(table) else modes["columns"]
        existing = {**promised, **_complete(known.get("columns", {}))}
        return cls(columns, modes["data_type"], existing, schema.naming.normalize_path)

    def mode(self, item: pa.Field) -> str:
        """Return what becomes of the values in a column."""
        if self.is_open or self._exists(item):
            return EVOLVE
        return self.data_type if self._contradicts(item) else self.columns

    def kept(self, rows: pa.Table) -> tuple[pa.Table, dict[str, str]]:
        """Return what the contract lets through, and the modes of columns with values to discard.

        What it freezes is returned: dlt refuses it in its own words, which its users may catch.
        """
        modes = {each.name: self.mode(each) for each in rows.schema}
        new = [name for name, mode in modes.items() if mode != EVOLVE]
        violated = {name: modes[name] for name in new if rows[name].null_count < len(rows)}
        if not new or FREEZE in violated.values():
            return rows, {}
        for name, mode in violated.items():
            if mode == DISCARD_ROW:
                rows = rows.filter(pc.is_null(rows[name]))
        return rows.drop_columns(new), violated

    def variants(self, rows: pa.Schema) -> dict[str, Any]:
        """Return the hints by which dlt knows new columns for values of another type."""
        # Not for a column that exists: dlt would discard its values, or fail.
        return {
            each.name: {"name": each.name, "variant": True}
            for each in rows
            if not self.is_open and not self._exists(each) and self._contradicts(each)
        }

    def _exists(self, item: pa.Field) -> bool:
        return self.normalize(item.name) in self.existing

    def _contradicts(self, item: pa.Field) -> bool:
        """Tell whether a column is for values that do not fit their main column."""
        origin = item.metadata or {}
        if IS_VARIANT.encode() not in origin:
            return False
        # If the main column is not added either, there is no type to contradict.
        if self.columns == EVOLVE or item.name.rpartition("__v_")[0] in self.existing:
            return True
        path = origin[SOURCE_PATH.encode()].decode()
        mains = (hint for hint in self.existing.values() if IS_VARIANT not in hint)
        return any(hint.get(SOURCE_PATH) == path for hint in mains)


OPEN = Contract()
"""The contract of a table without any."""


def contracts_of(schema: dlt.Schema, resources: Mapping[str, DltResource]) -> dict[str, Contract]:
    """Return the contracts of the tables that these resources load, by table."""
    found = {}
    for table in ALL_TABLES:
        if resource := resources.get(table.name):
            columns: Any = resource.columns
            _forget_new(columns)
            asked = resource.schema_contract
            found[table.name] = Contract.of(schema, table.name, asked, _complete(columns))
    return found


def _forget_new(columns: dict[str, Any]) -> None:
    # An earlier run of the same resource added them, if its contract let it.
    for name in [name for name, hint in columns.items() if SOURCE_PATH in hint]:
        del columns[name]


def _complete(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hint for name, hint in columns.items() if "data_type" in hint}
