"""The only room that knows dlt's decorators: the cursor, the hints, the resource `enrollments`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Any, ClassVar

import dlt
import orjson
import pyarrow as pa
from dlt.common.configuration.container import Container
from dlt.common.configuration.inject import with_config
from dlt.common.pipeline import PipelineContext
from dlt.common.runtime.signals import raise_if_signalled
from dlt.extract import DltResource, DltSource
from dlt.extract.items_transform import YieldMapItem

from unify_source.api.client import Client
from unify_source.destinations.formats import (
    Writing,
    capabilities,
    has_json_columns,
    merge_in_transactions,
)
from unify_source.destinations.lake import Lake, lake_format
from unify_source.flatten.split import is_json
from unify_source.load.load import Load
from unify_source.load.schema import Warehouse
from unify_source.resources import CURSOR, DELETED, KEY, Table
from unify_source.settings import KEY_ENVIRONMENT, Settings, checked_settings, parse_time

SOURCE = "unify"
RESOURCE = "enrollments"

Backfills = dict[str, list[list[str]]]
"""Unfinished backfills by name: where each ends, and what is left of it, from and to."""

Progress = Callable[[Backfills, Load], Backfills]


@dlt.source(name=SOURCE, section=SOURCE)
def unify_source(
    api_key: dlt.TSecretStrValue | None = None,
    base_url: str | None = None,
    sequence_id: str | None = None,
    person_id: str | None = None,
    mailbox_id: str | None = None,
    enrolled_by_play_id: str | None = None,
    status: Any = None,
    start: Any = None,
    lookback: Any = None,
    page_size: Any = None,
    workers: Any = None,
    requests_per_5min: Any = None,
    window_rows: Any = None,
    request_timeout: Any = None,
    retry_budget: Any = None,
    table_format: Any = None,
    updated_at: Any = None,
) -> DltResource:
    """Load sequence enrollments, and all that is nested in them, incrementally by `updated_at`.

    Every argument but the last is a setting, which configuration may give instead (section
    `sources.unify`). `updated_at` takes a `dlt.sources.incremental` with an `initial_value` and an
    `end_value`, or `allow_external_schedulers`, to load one range without touching the cursor.

    Raises ConfigurationError for a setting that cannot be.
    """
    # Of any type to dlt, which would refuse a wrong one without saying which value it had.
    given = {name: value for name, value in locals().items() if name != "updated_at"}
    settings = _settings(given)
    if Container()[PipelineContext].is_active() and dlt.current.pipeline().destination:
        # A package that an earlier run left is loaded before this source is read.
        merge_in_transactions(dlt.current.pipeline().destination)
    return enrollments(settings, Load(settings, Client(settings, raise_if_signalled)), updated_at)


def configured(**given: Any) -> Settings:
    """Return the settings that `unify_source` would take, from arguments and configuration.

    Raises ConfigurationError for a setting that cannot be.
    """
    settings: Settings = _configured(**given)
    return settings


def window_source(settings: Settings, load: Load, schema: dlt.Schema) -> DltSource:
    """Return the source for one part of a run; `schema` is the warehouse's."""
    return DltSource(schema, SOURCE, [enrollments(settings, load)])


def backfill_source(load: Load, schema: dlt.Schema, progress: Progress) -> DltSource:
    """Return the source for one window of a backfill: it leaves the cursor alone.

    `progress` gets the backfills that the state knows, and the load when it has been read; what it
    returns is kept instead, in one package with the rows.
    """

    def rows() -> Iterator[pa.Table]:
        state = dlt.current.resource_state()
        yield from load.batches(_warehouse(), state, None, None)
        state["backfills"] = progress(state.get("backfills", {}), load)

    return DltSource(schema, SOURCE, [_split(dlt.resource(rows, name=RESOURCE), load)])


def enrollments(settings: Settings, load: Load, updated_at: Any = None) -> DltResource:
    """Return the resource `enrollments`, which emits every table; its cursor is `updated_at`.

    With filters the cursor has a name of its own, so that it never moves the unfiltered one.
    """
    cursor = _cursor(settings).merge(_as_instants(updated_at)) if updated_at else _cursor(settings)

    def rows(
        updated_at: dlt.sources.incremental[datetime] = cursor,
    ) -> Iterator[pa.Table]:
        start, end = _bounds(updated_at)
        state = dlt.current.resource_state()
        yield from load.batches(_warehouse(), state, updated_at.cursor_path, start, end)

    return _split(dlt.resource(rows, name=RESOURCE), load)


def cursor_name(settings: Settings) -> str:
    """Return the name under which dlt keeps the cursor of a run with these filters."""
    if not settings.filters:
        return CURSOR
    return f"{CURSOR}_{blake2b(orjson.dumps(settings.filters), digest_size=6).hexdigest()}"


def _warehouse() -> Warehouse:
    has_json = has_json_columns(capabilities())
    return Warehouse(dlt.current.source_schema(), json_columns=has_json)


def _settings(given: dict[str, Any]) -> Settings:
    key = given.get("api_key") or os.environ.get(KEY_ENVIRONMENT)
    return checked_settings({**given, "api_key": key})


def _taken(**given: Any) -> Settings:
    return _settings(given)


_parameters = inspect.signature(unify_source).parameters.values()
_taken.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=p.KEYWORD_ONLY) for p in _parameters if p.name != "updated_at"]
)
_configured = with_config(_taken, sections=("sources", SOURCE))


class _Split(YieldMapItem):
    # Behind dlt's incremental step, which has an affinity of 1 and looks for its cursor.
    placement_affinity: ClassVar[float] = 2

    def __call__(self, item: Any, meta: Any = None) -> Any:
        # All of a batch at once: dlt takes turns between batches, and what one of them is about to
        # write must neither seem to be missing to the next nor come behind the last.
        return iter(list(super().__call__(item, meta) or ()))


def _split(resource: DltResource, load: Load) -> DltResource:
    writing: list[tuple[Writing, Lake | None]] = []

    def hinted(item: pa.Table) -> Iterator[Any]:
        # Only now is it known which pipeline runs, and what its tables are like.
        if not writing:
            kind = lake_format(capabilities(), load.table_format)
            tables = Writing(dlt.current.source_schema().tables)
            writing.append((tables, Lake(kind) if kind else None))
        how, lake = writing[0]
        made = load.tables(item)
        for table, rows in lake.ready(made, is_last=not len(item)) if lake else made:
            said = lake.hints(table) if lake else _merge(table, how.file_format(table.name, rows))
            hints = _hints(table, rows.schema, said)
            yield dlt.mark.with_hints(how.storable(rows), hints, create_table_variant=True)

    return resource.add_step(_Split(hinted))


def _hints(table: Table, schema: pa.Schema, how: dict[str, Any]) -> Any:
    columns: dict[str, Any] = {item.name: {"data_type": "json"} for item in schema if is_json(item)}
    columns[table.newest] = {"dedup_sort": "desc"}
    if DELETED in schema.names:
        columns[DELETED] = {"hard_delete": True}
    return dlt.mark.make_hints(table_name=table.name, primary_key=KEY, columns=columns, **how)


def _merge(table: Table, file_format: str | None) -> dict[str, Any]:
    merge: dict[str, Any] = {"disposition": "merge", "strategy": "delete-insert"}
    if owner := table.dies_with:
        merge["destination_scope"] = _scope(owner)
    return {"write_disposition": merge, "file_format": file_format}


def _scope(owner: str) -> str:
    # By its own key as well: a reply may have moved here from another enrollment. Not as two
    # conditions with OR: Postgres would look through the loaded rows again for every row it has.
    loaded = f"SELECT {KEY} FROM {{staging_table}}"  # noqa: S608 - our own names
    stored = f"SELECT stored.{KEY} FROM {{table}} AS stored"  # noqa: S608 - our own names
    same_owner = f"JOIN {{staging_table}} AS loaded ON stored.{owner} = loaded.{owner}"
    return f"{KEY} IN ({loaded} UNION ALL {stored} {same_owner})"


def _cursor(settings: Settings) -> Any:
    return dlt.sources.incremental[datetime](
        cursor_name(settings),
        initial_value=settings.start,
        lag=settings.lookback.total_seconds(),
    )


def _as_instants(updated_at: Any) -> Any:
    for name in ("initial_value", "end_value"):
        if (value := getattr(updated_at, name)) is not None:
            setattr(updated_at, name, parse_time(name, value))
    return updated_at


def _bounds(
    updated_at: dlt.sources.incremental[datetime],
) -> tuple[datetime | None, datetime | None]:
    start, end = updated_at.start_value, updated_at.end_value
    return (
        parse_time("initial_value", start) if start is not None else None,
        parse_time("end_value", end) if end is not None else None,
    )
