"""How much memory a run takes: what one window filled is given back before the next is read."""

from __future__ import annotations

import gc
from contextlib import suppress

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseException

from unify_source.dlt_seam import kind_of

# DuckDB would fill four fifths of the machine with what it may never read again.
DUCKDB_LIMIT = "350MB"
_NEXT_TO_NOTHING = "8MB"


def hold_down(pipeline: dlt.Pipeline, limit: str = DUCKDB_LIMIT) -> None:
    """Let DuckDB's memory grow to a limit only.

    A limit in the destination's own `global_config` stays as it is.
    """
    _limit(pipeline, limit)


def give_back(pipeline: dlt.Pipeline) -> None:
    """Empty what DuckDB and the allocator keep."""
    # dlt's pipes refer to one another, and so keep what was read.
    gc.collect()
    give_back_memory()
    _limit(pipeline, _NEXT_TO_NOTHING, DUCKDB_LIMIT)


def give_back_memory() -> None:
    """Empty what the allocator keeps: a merge fills as much again as reading the rows did."""
    pa.default_memory_pool().release_unused()


def _limit(pipeline: dlt.Pipeline, *limits: str) -> None:
    if kind_of(pipeline.destination) != "duckdb":
        return
    with pipeline.sql_client() as client:
        if "memory_limit" in (client.credentials.global_config or {}):
            return
        for limit in limits:
            # It refuses a limit below what is in use.
            with suppress(DatabaseException):
                client.execute_sql(f"SET GLOBAL memory_limit = '{limit}'")
