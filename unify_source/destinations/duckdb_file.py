"""A pipeline's DuckDB file: where it is, without opening it, and which DuckDB can read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt

from unify_source.dlt_seam import database_of, kind_of

STORAGE_VERSION = "v1.2.0"
"""The oldest DuckDB that can open new files: the oldest that we support."""

MERGES, NO_MERGES = "RESET GLOBAL max_vacuum_tasks", "SET GLOBAL max_vacuum_tasks = 0"
"""Whether DuckDB merges what it has stored when it writes to its file, or keeps loads apart.

DuckDB holds 2,048 adjacent rows at once, whatever it does with one of them: two gigabytes where
rows have a megabyte. Rows of two loads that it has not merged are not adjacent.
"""

_SETTING = "storage_compatibility_version"


@dataclass(frozen=True)
class DuckDBDatabase:
    """A database in a file, and the datasets that a pipeline keeps in it."""

    file: Path
    dataset: str
    staging_dataset: str


def duckdb_database(pipeline: dlt.Pipeline) -> DuckDBDatabase | None:
    """Return the file and datasets of a pipeline's DuckDB; None for memory and for other kinds."""
    if kind_of(pipeline.destination) != "duckdb":
        return None
    # Entering the client would open the file, which another run may have.
    client: Any = pipeline.destination_client()
    file = file_of(client)
    sql = client.sql_client
    return DuckDBDatabase(file, sql.dataset_name, sql.staging_dataset_name) if file else None


def file_of(client: Any) -> Path | None:
    """Return the file of a DuckDB client; None for memory and for a server."""
    name = database_of(client.config.credentials)
    # `:memory:` and the address of a server are not files that two runs could share.
    return None if name.startswith(":") or "://" in name else Path(name)


def make_readable_by_older(credentials: Any, file: Path) -> None:
    """Create a file that does not exist yet in an older format, which it then keeps.

    DuckDB 2 writes files that DuckDB 1 refuses, and many tools still include that. For the newest
    format, set `storage_compatibility_version` in dlt's `global_config` of the credentials. The
    setting only counts when a file is created, for which dlt has no option.
    """
    if file.exists():
        return
    # Imported here: it takes 15 MB and 50 ms, which runs on other destinations do not need.
    import duckdb  # noqa: PLC0415

    asked = (credentials.global_config or {}).get(_SETTING, STORAGE_VERSION)
    duckdb.connect(str(file), config={_SETTING: asked}).close()
