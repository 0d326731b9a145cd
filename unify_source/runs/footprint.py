"""Limits the memory of a run: what one window used is released before the next is read."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseException

from unify_source.dlt_seam import kind_of

# Without a limit, DuckDB caches up to four fifths of the machine's memory.
DUCKDB_LIMIT = "350MB"
_NEXT_TO_NOTHING = "8MB"


def hold_down(pipeline: dlt.Pipeline, limit: str = DUCKDB_LIMIT) -> None:
    """Limit DuckDB's memory, unless the destination's own `global_config` does."""
    _limit(pipeline, limit)


def make_room(pipeline: dlt.Pipeline, *, is_first: bool) -> None:
    """Limit DuckDB's memory for a window; unless it `is_first`, release what the last one used."""
    if is_first:
        hold_down(pipeline)
        return
    # dlt's pipes refer to one another, and so keep the rows that were read.
    gc.collect()
    give_back_memory()
    _limit(pipeline, _NEXT_TO_NOTHING, DUCKDB_LIMIT)


def give_back_memory() -> None:
    """Release what the allocators keep: a merge takes as much again as reading the rows did."""
    pa.default_memory_pool().release_unused()
    # glibc keeps what pages of a megabyte took, in an arena for each thread. musl has no such call.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _limit(pipeline: dlt.Pipeline, *limits: str) -> None:
    if kind_of(pipeline.destination) != "duckdb":
        return
    with pipeline.sql_client() as client:
        if "memory_limit" in (client.credentials.global_config or {}):
            return
        for limit in limits:
            # DuckDB refuses a limit below what is in use.
            with suppress(DatabaseException):
                client.execute_sql(f"SET GLOBAL memory_limit = '{limit}'")
