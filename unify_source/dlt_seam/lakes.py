"""What dlt passes to the library of Delta tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pyarrow as pa


def limit_delta_merges(condition: Callable[[Any, pa.Table, Any], str | None]) -> None:
    """Let dlt merge rows only with stored ones that meet a condition, in this process from now on.

    `condition` gets the open table, the rows and dlt's schema of the table, and returns SQL about
    the columns of `target`, where each column is null for a row that is not stored yet.
    """
    from dlt.common.libs import deltalake  # noqa: PLC0415 - an extra

    merge = deltalake.merge_delta_table
    if hasattr(merge, "__wrapped__"):
        return

    @wraps(merge)
    def merged(table: Any, data: Any, schema: Any, *args: Any, **kwargs: Any) -> None:
        rows = data.read_all()
        if limit := condition(table, rows, schema):
            # dlt adds it to the condition of the merge, and to that of an insert.
            schema = {**schema, "x-merge-source-filter": limit}
        merge(table, rows.to_reader(), schema, *args, **kwargs)

    deltalake.merge_delta_table = merged
