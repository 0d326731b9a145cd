"""A pipeline's DuckDB file: where it is, without opening it, and which DuckDB can read it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt

from unify_source.common.dlt_seam import database_of, kind_of
from unify_source.common.errors import ConfigurationError

STORAGE_VERSION = "v1.3.0"
"""The oldest DuckDB that can open new files: the oldest that we support.

In an older format, writing a ledger row takes 4 MB more memory when the file is closed.
"""

MERGES, NO_MERGES = "RESET GLOBAL max_vacuum_tasks", "SET GLOBAL max_vacuum_tasks = 0"
"""Whether DuckDB merges what it has stored when it writes to its file, or keeps loads apart.

DuckDB holds 2,048 adjacent rows at once, whatever it does with one of them: two gigabytes where
rows have a megabyte. Rows of two loads that it has not merged are not adjacent.
"""

_SETTING = "storage_compatibility_version"
# What stands in every file of DuckDB's, after a checksum.
_MARK, _MARKED_UP_TO = b"DUCK", 12
_ANOTHER = "Move it away, or name another file in DESTINATION__DUCKDB__CREDENTIALS."


@dataclass(frozen=True)
class DuckDBDatabase:
    """A database in a file, and the datasets that a pipeline keeps in it."""

    file: Path
    dataset: str
    staging_dataset: str

    @property
    def has_content(self) -> bool:
        """Whether there is a database; DuckDB would create a file, and opens no empty one."""
        return _has_content(self.file)

    @property
    def place(self) -> Path:
        """Where the file is, or would be created, behind any links."""
        return _place_of(self.file)


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
    if _has_content(file):
        return
    # Imported here: it takes 15 MB and 50 ms, which runs on other destinations do not need.
    import duckdb  # noqa: PLC0415

    asked = (credentials.global_config or {}).get(_SETTING, STORAGE_VERSION)
    # A full disk or a kill leaves an incomplete file, which no DuckDB opens: so not in its place.
    place = _place_of(file)
    part = place.with_name(f".{place.name}.new")
    part.unlink(missing_ok=True)
    try:
        duckdb.connect(str(part), config={_SETTING: asked}).close()
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def refuse_no_file(database: DuckDBDatabase) -> None:
    """Raise ConfigurationError where DuckDB's file is something else, or a link to nowhere.

    DuckDB would wait at a pipe for good.
    """
    file, place = database.file, database.place
    if file.exists() and not file.is_file():
        what = "a folder" if file.is_dir() else "not a file"
        raise ConfigurationError(f"{file} should be DuckDB's file, but is {what}.", _ANOTHER)
    if place.is_file() and place.stat().st_size and not _is_marked(place):
        raise ConfigurationError(f"{file} exists, but is not a DuckDB database.", _ANOTHER)
    if file.is_symlink() and not place.parent.is_dir():
        raise ConfigurationError(
            f"{file} is a link to {place}, whose folder does not exist.",
            "Mount or create that folder, or delete the link.",
        )


def _is_marked(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(_MARKED_UP_TO).endswith(_MARK)


def _has_content(file: Path) -> bool:
    # `touch` leaves an empty file, and so did a full disk.
    return file.exists() and not (file.is_file() and file.stat().st_size == 0)


def _place_of(file: Path) -> Path:
    return Path(os.path.realpath(file))
