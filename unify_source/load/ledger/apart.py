"""Creates tables, and adds rows to them, in a load of its own, beside any other run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from unify_source.common.dlt_seam import looking_at
from unify_source.common.resources import Table
from unify_source.common.settings import PARQUET
from unify_source.destinations.formats import file_format
from unify_source.destinations.lakes.merge import lake_format
from unify_source.destinations.locks.turns import opened_file

# A schema of its own: this is written without the lock, so it must not be a version of the schema
# that runs extend.
_SCHEMA = "unify_verify"


def append_apart(
    pipeline: dlt.Pipeline,
    table_format: str,
    lock_timeout: float | str,
    table: str,
    rows: pa.Table,
) -> None:
    """Append rows to a table, which the first rows create. Needs no lock.

    Raises LockHeld if another process keeps a DuckDB file open, and dlt's errors.
    """
    with looking_at(pipeline) as looking, opened_file(looking, lock_timeout):
        append_to(looking, table_format, table, rows)


def append_to(looking: dlt.Pipeline, table_format: str, table: str, rows: pa.Table) -> None:
    """Append rows through a pipeline that looks at the dataset (see `looking_at`)."""
    looking.run(_resource(looking, table_format, table, rows), schema=dlt.Schema(_SCHEMA))


def create(looking: dlt.Pipeline, table: Table) -> None:
    """Create a table without rows in a database, through a pipeline that looks at the dataset."""
    resource = _resource(looking, "", table.name, table.schema().empty_table())
    # dlt creates no table of a schema that it has stored before, even if it was dropped since.
    resource.apply_hints(additional_table_hints={"x-created": uuid4().hex})
    looking.extract(resource, schema=dlt.Schema(_SCHEMA))
    # Not loaded: for Postgres, dlt cannot copy a file without rows.
    looking.sync_schema(_SCHEMA)


def _resource(looking: dlt.Pipeline, table_format: str, table: str, rows: pa.Table) -> DltResource:
    # Without the pipeline's state, which is left to its own runs.
    looking.config.restore_from_destination = False
    caps = looking.destination.capabilities()
    lake = lake_format(caps, table_format)
    resource = dlt.resource([rows], name=table, write_disposition="append")
    how: dict[str, Any] = {
        "table_format": None if lake in (None, PARQUET) else lake,
        "file_format": file_format(caps, {}),
    }
    return resource.apply_hints(**how)
