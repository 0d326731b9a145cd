"""New DuckDB files: which versions of DuckDB can open them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

STORAGE_VERSION = "v1.2.0"
"""What new files can be opened with, and anything later: the oldest DuckDB that we run with."""

_SETTING = "storage_compatibility_version"


def make_readable_by_older(credentials: Any, file: Path) -> None:
    """Make a file that is not there yet in an older format, which it then keeps.

    DuckDB 2 writes files that DuckDB 1 refuses, and many tools still bring that along. Whoever
    wants the newest format sets `storage_compatibility_version` in dlt's `global_config` of the
    credentials. The setting counts only as a file is made, which dlt gives no way to do.
    """
    if file.exists():
        return
    asked = (credentials.global_config or {}).get(_SETTING, STORAGE_VERSION)
    duckdb.connect(str(file), config={_SETTING: asked}).close()
