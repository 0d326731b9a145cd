"""What dlt knows of a destination before anything runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dlt.common.data_writers.writers import resolve_best_writer_spec
from dlt.common.destination import AnyDestination
from dlt.destinations.fs_client import FSClientBase

from unify_source.dlt_seam.configuration import config_sections

__all__ = ["FSClientBase"]

# What a vault or a cloud gives out expires.
_RESOLVED_SECONDS = 60.0


def kind_of(destination: AnyDestination) -> str:
    """Return what kind of destination this is, such as "duckdb", whatever name it was given.

    Asking for its capabilities instead would resolve its whole configuration each time.
    """
    return destination.destination_type.rsplit(".", maxsplit=1)[-1]


@contextmanager
def resolved_once(destination: AnyDestination) -> Iterator[None]:
    """Let dlt resolve a destination's configuration once a minute in here, not for every client.

    It takes milliseconds each time, and a run makes dozens of clients. Those of a DuckDB file then
    share a connection as well. Does nothing within itself.
    """
    own = vars(destination)
    if "configuration" in own:
        yield
        return
    resolve = destination.configuration
    resolved: dict[str, tuple[float, Any]] = {}

    def configuration(initial_config: Any, accept_partial: bool = False) -> Any:  # noqa: FBT001, FBT002 - dlt's own
        if initial_config is None or initial_config.is_resolved():
            return resolve(initial_config, accept_partial)
        # What differs from client to client. Credentials are the destination's own, or those that
        # dlt makes up anew each time it asks for capabilities alone.
        asked = {**vars(initial_config), "credentials": None}
        pipeline_name, _ = config_sections()
        key = repr((pipeline_name, asked, accept_partial))
        at, known = resolved.get(key, (0.0, None))
        if known is None or time.monotonic() > at + _RESOLVED_SECONDS:
            known = resolve(initial_config, accept_partial)
            resolved[key] = time.monotonic(), known
        return known

    own["configuration"] = configuration
    try:
        yield
    finally:
        own.pop("configuration", None)


def database_of(credentials: Any) -> str:
    """Return what DuckDB is asked to open: a path, `:memory:` or an address."""
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
    """Return the format in which dlt writes Arrow tables fastest, of those supported."""
    return str(resolve_best_writer_spec("arrow", supported, preferred).file_format)
