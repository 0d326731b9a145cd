"""Tests whether a destination can be written, with a temporary table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.common.dlt_seam import FSClientBase, WithStagingDataset, is_function
from unify_source.common.resources import BY_NAME
from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.stored.history import LOADS

_NAME = "unify_source_check"
_EXISTING = ("_dlt_version", LOADS, *BY_NAME)


def try_writing(pipeline: dlt.Pipeline) -> None:
    """Create tables where rows would be loaded, and drop them; raise dlt's error if that fails.

    On databases, rows of existing tables must be deletable too: another user may own them. A merge
    also needs the staging dataset. Of a dataset that does not exist yet, one with another
    name is created and dropped. A file or folder that does not exist yet is not created: its
    nearest folder has to be writable. A function is not called.
    """
    if is_function(pipeline.destination):
        return
    database = duckdb_database(pipeline)
    # Connecting would create the file, and `check` promises to leave nothing behind.
    if database and not database.has_content:
        _refuse_closed_folder(database.place.parent)
        return
    client: Any = pipeline.destination_client()
    with client:
        if isinstance(client, FSClientBase):
            _try_files(client)
            return
        existing = _EXISTING if merges_in_transactions(pipeline) else ()
        _try_tables(client, existing)
        if isinstance(client, WithStagingDataset):
            with client.with_staging_dataset():
                _try_tables(client, existing)


def _try_tables(client: Any, existing: Iterable[str]) -> None:
    sql, name = client.sql_client, f"{_NAME}_{uuid4().hex[:12]}"
    if client.is_storage_initialized():
        _try_table(sql, name)
        for table in map(sql.make_qualified_table_name, existing):
            with suppress(DatabaseUndefinedRelation):
                sql.execute_sql(f"DELETE FROM {table} WHERE 1 = 0")  # noqa: S608 - our own names
        return
    with sql.with_alternative_dataset_name(f"{sql.dataset_name}_{name}"):
        try:
            sql.create_dataset()
            _try_table(sql, name)
        finally:
            # A dataset that could not be created cannot be dropped: the first error matters.
            with suppress(Exception):
                sql.drop_dataset()


def _try_table(sql: Any, name: str) -> None:
    table = sql.make_qualified_table_name(name)
    sql.execute_sql(f"CREATE TABLE {table} (id INT)")
    sql.execute_sql(f"DROP TABLE {table}")


def _try_files(client: Any) -> None:
    if client.config.protocol == "file":
        _refuse_closed_folder(Path(client.config.make_local_path(client.config.bucket_url)))
        return
    # An object store has no folders to ask for their permissions: only writing tells.
    file = f"{client.dataset_path}/{_NAME}_{uuid4().hex[:12]}"
    client.fs_client.pipe_file(file, b"")
    client.fs_client.rm_file(file)


def _refuse_closed_folder(folder: Path) -> None:
    nearest = next(part for part in (folder, *folder.parents) if part.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(20, "Not a folder", str(nearest))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied", str(nearest))
