"""Clients of a pipeline's destination, created as dlt does, but without repeating all the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dlt

from unify_source.common.dlt_seam.configuration import config_sections

# Credentials from a vault or a cloud expire.
_RESOLVED_SECONDS = 60.0


@contextmanager
def quick_clients(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Let dlt create clients of a pipeline's destination in a tenth of the time.

    Otherwise it would resolve the whole configuration and read the schema from its file for each
    of the dozens of clients that a run needs. Clients of a DuckDB file also share a connection.
    Nested in itself, it does nothing.
    """
    with (
        _in_place_of(pipeline.destination, "configuration", _resolved_once),
        # Only for the pipeline: another that looks at the same destination reads its own schema.
        _in_place_of(pipeline, "_get_schema_or_create", partial(_live_schema, pipeline)),
    ):
        yield


@contextmanager
def _in_place_of(owner: Any, name: str, quicker: Callable[[Any], Any]) -> Iterator[None]:
    if name in vars(owner):
        yield
        return
    # An attribute hides the method of the same name, from dlt too.
    vars(owner)[name] = quicker(getattr(owner, name))
    try:
        yield
    finally:
        vars(owner).pop(name, None)


def _resolved_once(resolve: Callable[..., Any]) -> Callable[..., Any]:
    resolved: dict[str, tuple[float, Any]] = {}

    def configuration(initial_config: Any, accept_partial: bool = False) -> Any:  # noqa: FBT001, FBT002 - dlt's own
        if initial_config is None or initial_config.is_resolved():
            return resolve(initial_config, accept_partial)
        # The fields that differ from client to client. Credentials are the destination's own, or
        # those that dlt invents each time it only needs the capabilities.
        asked = {**vars(initial_config), "credentials": None}
        pipeline_name, _ = config_sections()
        key = repr((pipeline_name, asked, accept_partial))
        at, known = resolved.get(key, (0.0, None))
        if known is None or time.monotonic() > at + _RESOLVED_SECONDS:
            known = resolve(initial_config, accept_partial)
            resolved[key] = time.monotonic(), known
        return known

    return configuration


def _live_schema(
    pipeline: dlt.Pipeline, read: Callable[..., dlt.Schema]
) -> Callable[..., dlt.Schema]:
    not_yet: dict[str | None, dlt.Schema] = {}

    def schema(name: str | None = None) -> dlt.Schema:
        # The file is written from this object, and no other process writes to the folder.
        storage: Any = pipeline.schemas
        name = name or pipeline.default_schema_name
        if name in storage.live_schemas:
            return storage.live_schemas[name]  # type: ignore[no-any-return]
        if name in storage:
            return read(name)
        if name not in not_yet:
            not_yet[name] = read(name)
        return not_yet[name]

    return schema
