"""What stands in the warehouse already: its tables and columns, and which rows can be in them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from unify_source.flatten.split import Splitting, is_json
from unify_source.resources import BY_NAME, INSTANT, TEXT

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

    def has(self, table: str) -> bool:
        """Tell whether anything has been written to a table."""
        return table in self._made

    def note(self, name: str, schema: pa.Schema) -> None:
        """Keep in mind what is written to a table."""
        self._made.add(name)
        for item in schema:
            kind = "json" if is_json(item) else _ARROW_TO_DLT.get(item.type)
            if kind:
                self._types.setdefault((name, item.name), kind)
