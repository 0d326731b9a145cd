"""What stands in the warehouse already: its tables and columns, and which rows can be in them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.flatten.split import Splitting, is_json
from unify_source.load.state import State
from unify_source.resources import BY_NAME, CURSOR, ENROLLMENTS, INSTANT, TEXT, Table
from unify_source.times import EPOCH, parse_instant, rfc3339

_ARROW_TO_DLT = {
    TEXT: "text",
    pa.bool_(): "bool",
    pa.int64(): "bigint",
    pa.float64(): "double",
    INSTANT: "timestamp",
}


class Warehouse:
    """The tables as dlt's schema knows them, with what this load adds."""

    def __init__(self, schema: Any, *, json_columns: bool = True) -> None:
        self._made = {name for name in BY_NAME if name in schema.tables}
        self.is_empty = ENROLLMENTS.name not in self._made
        self._types = {
            (name, column): str(hints["data_type"])
            for name in self._made
            for column, hints in schema.tables[name]["columns"].items()
            if "data_type" in hints
        }
        self.splitting = Splitting(
            normalize=schema.naming.normalize_path,
            known_type=lambda table, column: self._types.get((table, column)),
            json_columns=json_columns,
        )

    def missing(self) -> list[Table]:
        """Return the tables that nothing has been written to yet."""
        return [table for name, table in BY_NAME.items() if name not in self._made]

    def note(self, name: str, schema: pa.Schema) -> None:
        """Keep in mind what is written to a table."""
        self._made.add(name)
        for item in schema:
            kind = "json" if is_json(item) else _ARROW_TO_DLT.get(item.type)
            if kind:
                self._types.setdefault((name, item.name), kind)


class News:
    """Tells which rows the warehouse cannot have held before, in any version.

    The first load found it empty, at a known instant of the server's clock. A row that was updated
    before then, and is read behind the cursor, is read for the first time: a newer version would
    stand later. It spares the first loads a million marks for replies that were never there.
    """

    def __init__(
        self, warehouse: Warehouse, state: State, closed_at: datetime, lookback: timedelta
    ) -> None:
        first = state.get("empty_until")
        if first is None:
            first = rfc3339(closed_at - lookback if warehouse.is_empty else EPOCH)
        self._empty_until: str = first
        self._loaded_until: str = state.get("loaded_until", rfc3339(EPOCH))
        self._newest = EPOCH

    def of(self, rows: pa.Table, *, is_listed: bool) -> pa.Array:
        """Return for each row whether it is new; one that was asked for by id is not."""
        if not is_listed or not len(rows):
            return pa.repeat(pa.scalar(value=False), len(rows))
        self._newest = max(self._newest, pc.max(rows[CURSOR]).as_py())
        after = pc.greater(rows[CURSOR], _scalar(self._loaded_until))
        return pc.and_(after, pc.less_equal(rows[CURSOR], _scalar(self._empty_until)))

    def remember(self, state: State, covered_until: datetime) -> None:
        """Note how far has been loaded, for as long as it matters."""
        state["empty_until"] = self._empty_until
        newest = min(self._newest, covered_until)
        loaded_until = max(self._loaded_until, rfc3339(newest))
        state["loaded_until"] = min(loaded_until, self._empty_until)


def _scalar(instant: str) -> pa.Scalar:
    return pa.scalar(parse_instant(instant), INSTANT)
