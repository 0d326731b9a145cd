"""The tables and columns that the warehouse already has, and the source of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from unify_source.common.dlt_seam import forget_column
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import AS_OF, BY_NAME, JSON, KNOWN_AS_OF, Table
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.settings.limits import USUAL
from unify_source.common.settings.privacy import KEEP
from unify_source.flatten.names import MORE_FIELDS, KnownColumn, Splitting
from unify_source.flatten.new_columns import IS_VARIANT, SOURCE_PATH
from unify_source.flatten.tables import is_json
from unify_source.flatten.values import DLT_TYPES
from unify_source.load.schema.contracts import EVOLVE, OPEN, Contract

_HARMLESS = re.compile(r"[\w/.+-]{0,16}")


class Warehouse:
    """The tables as dlt's schema knows them, with what this load adds.

    A column that the load adds because values do not fit their main column is reported to
    `notices`, once: later runs find it in the schema.
    """

    def __init__(
        self,
        schema: Any,
        *,
        json_columns: bool = True,
        max_new_columns: int = USUAL.max_new_columns,
        by_account: bool = False,
        notices: Notices | None = None,
        shows_examples: bool = False,
        contracts: Mapping[str, Contract] | None = None,
    ) -> None:
        self._notices, self._shows_examples = notices or Notices(), shows_examples
        self._contracts = contracts or {}
        self._made = {name for name in BY_NAME if name in schema.tables}
        self._columns = {
            name: {
                column: _known(hints)
                for column, hints in schema.tables[name]["columns"].items()
                if "data_type" in hints
            }
            for name in self._made
        }
        self.splitting = Splitting(
            normalize=schema.naming.normalize_path,
            columns=lambda table: self._columns.get(table, {}),
            json_columns=json_columns,
            max_new_columns=max_new_columns,
            reserved=frozenset({ACCOUNT} if by_account else ()),
            discards_variants=lambda table: self._contract(table).data_type != EVOLVE,
        )

    @classmethod
    def of(
        cls,
        schema: Any,
        settings: Settings,
        *,
        json_columns: bool,
        notices: Notices | None = None,
        contracts: Mapping[str, Contract] | None = None,
    ) -> Warehouse:
        """Return the warehouse of a run with these settings."""
        return cls(
            schema,
            json_columns=json_columns,
            max_new_columns=settings.limits.max_new_columns,
            by_account=settings.account is not None,
            notices=notices,
            shows_examples=settings.pii == KEEP,
            contracts=contracts,
        )

    def has(self, table: str) -> bool:
        """Tell whether anything has been written to a table."""
        return table in self._made

    def content(self, table: Table) -> dict[str, str]:
        """Return the types, by name, of the columns that hold what the API sent.

        If the table does not exist yet, those that it will have.
        """
        promised = {
            column.name: "json" if column.type == JSON else DLT_TYPES[column.type]
            for column in table.columns
        }
        existing = self._columns.get(table.name, {})
        known = {name: promised.get(name, column.type) for name, column in existing.items()}
        kinds = known or promised
        aside = {column.name for column in table.columns if not column.is_content}
        return {n: kind for n, kind in kinds.items() if n not in aside and not n.startswith("_")}

    def note(self, name: str, rows: pa.Table) -> None:
        """Note the columns that are written to a table."""
        self._made.add(name)
        columns = self._columns.setdefault(name, {})
        before, contract = set(columns), self._contract(name)
        added = pa.schema([each for each in rows.schema if contract.mode(each) == EVOLVE])
        for column, hints in source_hints(added, with_types=True).items():
            if "data_type" in hints:
                existing = columns.get(column)
                # dlt never changes the type of a column that exists.
                kind = existing.type if existing else hints["data_type"]
                columns[column] = _known({**hints, "data_type": kind})
        for column in sorted(columns.keys() - before):
            self._notice(name, columns, column, rows)

    def _contract(self, table: str) -> Contract:
        return self._contracts.get(table, OPEN)

    def _notice(
        self, table: str, columns: dict[str, KnownColumn], column: str, rows: pa.Table
    ) -> None:
        new = columns[column]
        if column == self.splitting.normalize(MORE_FIELDS):
            self._notices.add(
                f"{table} has {self.splitting.max_new_columns} undocumented columns"
                " (max_new_columns), or a key is too long for one: further fields are kept in its"
                f" column {column}, as JSON.",
                always=True,
            )
        # Both may be new: by now, the main column is among the columns too.
        for main, existing in columns.items() if new.is_variant else ():
            if existing.path == new.path and not existing.is_variant:
                example = self._example(table, rows[column])
                self._notices.add(
                    f"{table}.{main} is {existing.type}, and the API also sends"
                    f" {new.type}{example}: such values are in {table}.{column}, and {main} is"
                    " null there. Read both columns, or ask Unify which type is meant. This warning"
                    " appears only once.",
                    always=True,
                )

    def _example(self, table: str, column: pa.ChunkedArray) -> str:
        """Return a value of a new column in words; nothing if it may be personal."""
        is_personal = any(each.pii for each in BY_NAME[table].columns)
        value = next((each for each in column.to_pylist() if each is not None), None)
        if is_personal or not self._shows_examples or value is None:
            return ""
        # An address, or a text long enough for a name or a message, is left out of logs.
        if isinstance(value, str) and not _HARMLESS.fullmatch(value):
            return ""
        return f", such as {value.isoformat() if isinstance(value, datetime) else repr(value)}"


def take_over_columns() -> None:
    """Remove the hint of the column by which versions before 0.2.0 merged dimensions."""
    # dlt refuses a table in which two columns say which of two rows is newer.
    for table in BY_NAME.values():
        if table.newest == KNOWN_AS_OF:
            forget_column(table.name, AS_OF)


def source_hints(schema: pa.Schema, *, with_types: bool = False) -> dict[str, dict[str, Any]]:
    """Return the hints of columns for dlt to store: which are JSON, and the source of each.

    Without the source, the next run could not tell which of two similar keys has the column. Types
    that dlt infers itself are left out, unless asked for.
    """
    hints: dict[str, dict[str, Any]] = {}
    for item in schema:
        own = {
            name.decode(): value.decode()
            for name, value in (item.metadata or {}).items()
            if name.decode() in (SOURCE_PATH, IS_VARIANT)
        }
        if is_json(item):
            own["data_type"] = "json"
        elif with_types and item.type in DLT_TYPES:
            own["data_type"] = DLT_TYPES[item.type]
        if own:
            hints[item.name] = own
    return hints


def _known(hints: Any) -> KnownColumn:
    path = hints.get(SOURCE_PATH)
    return KnownColumn(
        str(hints["data_type"]), tuple(json.loads(path)) if path else None, IS_VARIANT in hints
    )
