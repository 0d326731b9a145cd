"""What dlt passes to the library of Delta tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pyarrow as pa

Condition = Callable[[Any, Any, Callable[[], pa.Table]], "str | None"]
"""Gets an open table, dlt's schema of it, and a function that reads the rows to merge.

Returns SQL about the columns of `target`: each is null for a row that is not stored yet.
"""


def limit_delta_merges(condition: Condition) -> None:
    """Let dlt merge only with stored rows that meet a condition, in this process from now on."""
    from dlt.common.libs import deltalake  # noqa: PLC0415 - an extra

    merge = deltalake.merge_delta_table
    if hasattr(merge, "__wrapped__"):
        return

    @wraps(merge)
    def merged(table: Any, data: Any, schema: Any, *args: Any, **kwargs: Any) -> None:
        read: list[pa.Table] = []

        def rows() -> pa.Table:
            read.append(data.read_all())
            return read[0]

        if limit := condition(table, schema, rows):
            # dlt adds it to the condition of the merge, and to that of an insert.
            schema = {**schema, "x-merge-source-filter": limit}
        merge(table, read[0].to_reader() if read else data, schema, *args, **kwargs)

    deltalake.merge_delta_table = merged
