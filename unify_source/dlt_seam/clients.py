"""Clients of a pipeline's destination, as dlt makes them, but without doing all of it each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dlt

from unify_source.dlt_seam.configuration import config_sections

# What a vault or a cloud gives out expires.
_RESOLVED_SECONDS = 60.0


@contextmanager
def quick_clients(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Let dlt make clients of a pipeline's destination in a tenth of the time.

    For each of the dozens that a run makes it would resolve the whole configuration again, and read
    the schema from its file. Clients of a DuckDB file share a connection as well. Within itself it
    does nothing.
    """
    with (
        _in_place_of(pipeline.destination, "configuration", _resolved_once),
        # Of the pipeline's own: another that looks at the same destination reads its schema itself.
        _in_place_of(pipeline, "_get_schema_or_create", partial(_live_schema, pipeline)),
    ):
        yield


@contextmanager
def _in_place_of(owner: Any, name: str, quicker: Callable[[Any], Any]) -> Iterator[None]:
    if name in vars(owner):
        yield
        return
    # An attribute hides the method of its name, from dlt as well.
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

    return configuration


def _live_schema(
    pipeline: dlt.Pipeline, read: Callable[..., dlt.Schema]
) -> Callable[..., dlt.Schema]:
    not_yet: dict[str | None, dlt.Schema] = {}

    def schema(name: str | None = None) -> dlt.Schema:
        # The file is written from this one, and no other process writes to the folder.
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
