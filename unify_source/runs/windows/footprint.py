"""Limits the memory of a run: what one window used is released before the next is read."""

from __future__ import annotations

import gc
from contextlib import suppress

import dlt
from dlt.destinations.exceptions import DatabaseException

from unify_source.common.dlt_seam import kind_of
from unify_source.destinations.duckdb_file import MERGES, NO_MERGES
from unify_source.extract.reader import MOST_WIDE_BYTES
from unify_source.flatten.decode.allocators import give_back_memory
from unify_source.load.packages import wide_bytes

# Without a limit, DuckDB caches up to four fifths of the machine's memory.
DUCKDB_LIMIT = "350MB"
_NEXT_TO_NOTHING = "8MB"


def hold_down(pipeline: dlt.Pipeline, limit: str = DUCKDB_LIMIT) -> None:
    """Limit DuckDB's memory, unless the destination's own `global_config` does."""
    _limit(pipeline, limit)


def make_room(pipeline: dlt.Pipeline, *, is_first: bool) -> None:
    """Limit DuckDB's memory for a window; unless it `is_first`, release what the last one used.

    The pipeline's state tells how wide the stored rows are.
    """
    if is_first:
        hold_down(pipeline)
    else:
        # dlt's pipes refer to one another, and so keep the rows that were read.
        gc.collect()
        give_back_memory()
        _limit(pipeline, _NEXT_TO_NOTHING, DUCKDB_LIMIT)
    _let_merge(pipeline)


def _let_merge(pipeline: dlt.Pipeline) -> None:
    """Let DuckDB merge what it stores apart, unless the stored rows are too long for our limit."""
    if kind_of(pipeline.destination) != "duckdb":
        return
    with pipeline.sql_client() as client:
        is_limited = "memory_limit" not in (client.credentials.global_config or {})
        is_apart = is_limited and wide_bytes(pipeline) > MOST_WIDE_BYTES
        client.execute_sql(NO_MERGES if is_apart else MERGES)
        if is_apart:
            # dlt has DuckDB write to its file once there is a gigabyte: until then, the rows of all
            # windows would be one group. Another program's transaction can prevent it.
            with suppress(DatabaseException):
                client.execute_sql("CHECKPOINT")


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
