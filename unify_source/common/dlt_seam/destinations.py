"""What dlt knows about a destination before anything runs."""

from __future__ import annotations

from typing import Any

import dlt
from dlt.common.data_writers.writers import resolve_best_writer_spec
from dlt.common.destination import AnyDestination
from dlt.common.destination.client import WithStagingDataset
from dlt.destinations.fs_client import FSClientBase
from dlt.destinations.sql_client import WithSqlClient

__all__ = ["FSClientBase", "WithStagingDataset"]


def kind_of(destination: AnyDestination) -> str:
    """Return the kind of a destination, such as "duckdb", whatever its name.

    Its capabilities have it too, but dlt would resolve the whole configuration for them each time.
    """
    return destination.destination_type.rsplit(".", maxsplit=1)[-1]


def is_function(destination: AnyDestination) -> bool:
    """Tell whether a destination is a function of the user's, which is called with the rows."""
    return isinstance(destination, dlt.destinations.destination)


def has_tables(destination: AnyDestination) -> bool:
    """Tell whether a destination stores rows in tables that SQL can query."""
    try:
        return issubclass(destination.client_class, WithSqlClient)
    except ImportError:
        # dlt reports the missing package when it connects.
        return True


def database_of(credentials: Any) -> str:
    """Return the database that DuckDB opens: a path, `:memory:` or an address."""
    return str(credentials._conn_str())  # noqa: SLF001 - dlt has no public name for it


def merge_in_transactions(destination: AnyDestination) -> None:
    """Let each table's merge be one transaction, wherever the destination has transactions.

    dlt leaves `supports_transactions` unset for DuckDB, Postgres and others, and then runs a merge
    in autocommit, unless its SQL happens to hold the letters of CREATE, DROP or ALTER. A failure
    between DELETE and INSERT would take rows away. Where DDL is transactional, rows are as well.
    """
    if "supports_transactions" in destination.caps_params:
        return
    caps = destination.capabilities()
    if caps.supports_ddl_transactions and caps.supports_transactions is None:
        destination.caps_params["supports_transactions"] = True


def fastest_format(preferred: Any, supported: list[Any]) -> str:
    """Return the supported format in which dlt writes Arrow tables fastest."""
    return str(resolve_best_writer_spec("arrow", supported, preferred).file_format)
