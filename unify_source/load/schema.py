"""The tables and columns that the warehouse already has, and the source of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from unify_source.accounts import ACCOUNT
from unify_source.destinations.contents import carried_rows
from unify_source.dlt_seam import capabilities, forget_column, running_pipeline
from unify_source.flatten.names import MORE_FIELDS, KnownColumn, Splitting
from unify_source.flatten.new_columns import IS_VARIANT, SOURCE_PATH
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.shared import Carried
from unify_source.flatten.tables import is_json
from unify_source.flatten.values import DLT_TYPES
from unify_source.limits import USUAL
from unify_source.notices import Notices
from unify_source.privacy_settings import KEEP
from unify_source.resources import AS_OF, BY_NAME, JSON, KNOWN_AS_OF, MAIN_LIST, Table
from unify_source.settings import Settings
from unify_source.state.cursors import Cursors
from unify_source.state.memory import Memory, State

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
    ) -> None:
        self._notices, self._shows_examples = notices or Notices(), shows_examples
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
        )

    @classmethod
    def of(
        cls,
        schema: Any,
        settings: Settings,
        *,
        json_columns: bool,
        notices: Notices | None = None,
    ) -> Warehouse:
        """Return the warehouse of a run with these settings."""
        return cls(
            schema,
            json_columns=json_columns,
            max_new_columns=settings.limits.max_new_columns,
            by_account=settings.account is not None,
            notices=notices,
            shows_examples=settings.pii == KEEP,
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
        before = set(columns)
        for column, hints in source_hints(rows.schema, with_types=True).items():
            if "data_type" in hints:
                existing = columns.get(column)
                # dlt never changes the type of a column that exists.
                kind = existing.type if existing else hints["data_type"]
                columns[column] = _known({**hints, "data_type": kind})
        for column in sorted(columns.keys() - before):
            self._notice(name, columns, column, rows)

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


@dataclass(frozen=True)
class Target:
    """Where an extraction's rows go: the warehouse as it is, and the state kept there.

    `cursors` are those of the selected tables, `privacy` is applied on the way. Without `state` the
    run remembers nothing: it loads a sample, or only some of the tables. `carried` returns the rows
    that others than their owners carry too.
    """

    warehouse: Warehouse
    cursors: Cursors
    privacy: Privacy
    state: State | None = None
    quarantine: State = field(default_factory=dict)
    moves_cursors: bool = True
    sample_pages: int | None = None
    carried: Callable[[], list[Carried]] = list

    def memory(
        self,
        settings: Settings,
        start: datetime | None,
        empty_at: datetime | None,
        *,
        is_first: bool,
    ) -> Memory:
        """Return the memory of a load that reads from `start` on; `is_first` of its run or not."""
        # A backfill reads only its range; rows in quarantine wait for the next sync.
        cursors, is_sync = self.cursors, self.moves_cursors and self.state is not None
        # After a gap, rows that were visible in time but skipped look late.
        is_measured = is_sync and is_first and cursors.is_settled
        return Memory(
            self.state if self.state is not None else {},
            self.quarantine if self.state is not None else {},
            cursors.name if is_sync else None,
            settings.lookback,
            start,
            empty_at,
            asks=is_sync and is_first,
            rereads=is_sync and not settings.filters,
            trusts_tail=cursors.agree,
            measured_from=cursors.oldest if is_measured else None,
        )


def carried_by_others(selected: frozenset[str], account: str | None) -> list[Carried]:
    """Return the stored rows of these tables that others than their owners carry too."""
    if not capabilities():
        return []
    shared = [each for each in MAIN_LIST.shared() if each.references in selected]
    root = MAIN_LIST.parts[0].table
    rows = (carried_rows(running_pipeline(), root, each, account) for each in shared)
    return [carried for each in rows for carried in each]
