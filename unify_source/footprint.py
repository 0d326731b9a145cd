"""How much memory a run takes: what one window filled is given back before the next is read."""

from __future__ import annotations

import gc
from contextlib import suppress

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseException

# DuckDB would fill four fifths of the machine with what it may never read again.
DUCKDB_LIMIT = "400MB"
_NEXT_TO_NOTHING = "64MB"


def give_back(pipeline: dlt.Pipeline) -> None:
    """Empty what DuckDB and the allocator keep, and let DuckDB's memory grow to a limit only.

    A limit in the destination's own `global_config` stays as it is.
    """
    # dlt's pipes refer to one another, and so keep what was read.
    gc.collect()
    pa.default_memory_pool().release_unused()
    if not pipeline.destination.destination_type.endswith(".duckdb"):
        return
    with pipeline.sql_client() as client:
        # It refuses a limit below what is in use.
        with suppress(DatabaseException):
            client.execute_sql(f"SET GLOBAL memory_limit = '{_NEXT_TO_NOTHING}'")
        client.execute_sql(f"SET GLOBAL memory_limit = '{DUCKDB_LIMIT}'")
