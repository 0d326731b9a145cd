"""Adds rows to a table of a dataset by a load of its own, beside whatever else runs on it."""

from __future__ import annotations

from typing import Any

import dlt
import pyarrow as pa

from unify_source.destinations.formats import file_format
from unify_source.destinations.lake import lake_format
from unify_source.destinations.lock import opened_file
from unify_source.dlt_seam import looking_at
from unify_source.settings import PARQUET

# A schema of its own: written without the lock, it must not be a version of the one that runs
# extend.
_SCHEMA = "unify_verify"


def append_apart(
    pipeline: dlt.Pipeline,
    table_format: str,
    lock_timeout: float | str,
    table: str,
    rows: pa.Table,
) -> None:
    """Append rows to a table, which is made with the first of them. Needs no lock.

    Raises LockHeld where another process keeps a DuckDB file open, and what dlt raises.
    """
    with looking_at(pipeline) as looking, opened_file(looking, lock_timeout):
        append_to(looking, table_format, table, rows)


def append_to(looking: dlt.Pipeline, table_format: str, table: str, rows: pa.Table) -> None:
    """Append rows by a pipeline that looks at the dataset (see `looking_at`)."""
    # The state of the pipeline is what its own runs say.
    looking.config.restore_from_destination = False
    caps = looking.destination.capabilities()
    lake = lake_format(caps, table_format)
    resource = dlt.resource([rows], name=table, write_disposition="append")
    how: dict[str, Any] = {
        "table_format": None if lake in (None, PARQUET) else lake,
        "file_format": file_format(caps, {}),
    }
    resource.apply_hints(**how)
    looking.run(resource, schema=dlt.Schema(_SCHEMA))
