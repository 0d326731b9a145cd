"""The only room that knows dlt's decorators: the cursor, the hints, the resource `enrollments`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any, ClassVar

import dlt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.configuration.inject import with_config
from dlt.extract import DltResource
from dlt.extract.items_transform import YieldMapItem

from unify_source.client import Client
from unify_source.decode import Batch, decode
from unify_source.memory import AskAgain, State, Tail
from unify_source.oddities import Unreadable
from unify_source.reader import first_instant, page_bodies
from unify_source.settings import KEY_ENVIRONMENT, Settings, checked_settings, parse_time
from unify_source.split import JSON, Splitting, empty, quarantined, released, split
from unify_source.tables import (
    AS_OF,
    CURSOR,
    DELETED,
    ENROLLMENTS,
    INSTANT,
    KEY,
    QUARANTINE,
    TABLES,
    TEXT,
    Table,
)
from unify_source.window import EPOCH, Window, cut

SOURCE = "unify"
RESOURCE = "enrollments"
BATCH_BYTES = 16 << 20

_ROW = "enrollment"
_BY_NAME = {table.name: table for table in (*TABLES, QUARANTINE)}


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
    page_size: int | None = None,
    workers: int | None = None,
    requests_per_5min: int | None = None,
    request_timeout: float | None = None,
    retry_budget: float | None = None,
    updated_at: Any = None,
) -> DltResource:
    """Load sequence enrollments, and all that is nested in them, incrementally by `updated_at`.

    Every argument but the last is a setting, which configuration may give instead (section
    `sources.unify`). `updated_at` takes a `dlt.sources.incremental` with an `initial_value` and an
    `end_value`, or `allow_external_schedulers`, to load one range without touching the cursor.

    Raises ConfigurationError for a setting that cannot be.
    """
    given = {name: value for name, value in locals().items() if name != "updated_at"}
    return enrollments_resource(_settings(given), updated_at)


@with_config(sections=("sources", SOURCE))
def configured(
    api_key: dlt.TSecretStrValue | None = None, base_url: str | None = None, **given: Any
) -> Settings:
    """Return the settings that say where the API is, from arguments and configuration."""
    return _settings({"api_key": api_key, "base_url": base_url, **given})


def _settings(given: dict[str, Any]) -> Settings:
    key = given.get("api_key") or os.environ.get(KEY_ENVIRONMENT)
    return checked_settings({**given, "api_key": key})


def enrollments_resource(settings: Settings, updated_at: Any = None) -> DltResource:
    """Return the resource `enrollments`, which emits every table; its cursor is `updated_at`.

    With filters the cursor has a name of its own, so that it never moves the unfiltered one.
    """
    cursor = _cursor(settings).merge(_as_instants(updated_at)) if updated_at else _cursor(settings)
    load = _Load(settings)

    def enrollments(
        updated_at: dlt.sources.incremental[datetime] = cursor,
    ) -> Iterator[pa.Table]:
        yield from load.read(updated_at)

    return dlt.resource(enrollments, name=RESOURCE).add_step(_Split(load.split))


class _Split(YieldMapItem):
    # Behind dlt's incremental step, which has an affinity of 1 and filters by the cursor.
    placement_affinity: ClassVar[float] = 2


class _Load:
    """One load: reads a window, and splits what dlt's cursor lets through."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client(settings)
        self._set_aside: list[Unreadable] = []
        self._released: list[str] = []

    def read(self, updated_at: dlt.sources.incremental[datetime]) -> Iterator[pa.Table]:
        """Yield nested batches, with dlt's cursor as a column beside the rows.

        Stopping before the end leaves the state as it was, so that the next load reads all again.
        """
        self._tables = _TablesSoFar(dlt.current.source_schema())
        start, end = _bounds(updated_at)
        state: State = dlt.current.resource_state() if end is None else {}
        again = AskAgain(state)
        tails = state.get("tails", {})
        tail = Tail(tails.get(updated_at.cursor_path, {}), self._settings.lookback)
        now = self._client.server_time()
        window = Window(_earlier(start, again.reread_from), min(end or now, now))
        for rows in self._rows(window, again, tail):
            yield _item(rows, updated_at.cursor_path, start or EPOCH, window.before)
        if self._tables.missing():
            yield _item(_NO_ROWS, updated_at.cursor_path, EPOCH, EPOCH)
        dlt.current.resource_metrics()["requests"] = self._client.requests
        for name in ("ask_again", "reread_from"):
            state.pop(name, None)
        state.update(again.state(tail.in_two_versions()))
        if own := tail.state():
            state["tails"] = {**tails, updated_at.cursor_path: own}

    def split(self, item: pa.Table) -> Iterator[Any]:
        """Yield the tables of one batch, each with its hints."""
        seen_at = datetime.now(timezone.utc)
        rows = pa.Table.from_struct_array(item[_ROW])
        if len(rows):
            for name, table in split(rows, seen_at, self._tables.splitting()).items():
                yield from self._tables.hinted(name, table)
        set_aside, self._set_aside = self._set_aside, []
        yield from self._tables.hinted(QUARANTINE.name, quarantined(set_aside, seen_at))
        ids, self._released = self._released, []
        yield from self._tables.hinted(QUARANTINE.name, released(pa.array(ids, TEXT), seen_at))
        if not len(rows):
            for table in self._tables.missing():
                yield from self._tables.hinted(table.name, empty(table), even_empty=True)

    def _rows(self, window: Window, again: AskAgain, tail: Tail) -> Iterator[pa.Table]:
        for batch in self._batches(window, again):
            self._set_aside += again.news(batch.unreadable)
            self._released += again.released(batch.rows)
            rows = tail.unseen(batch.rows)
            if len(rows) or self._set_aside or self._released:
                yield rows

    def _batches(self, window: Window, again: AskAgain) -> Iterator[Batch]:
        yield from self._asked_again(again)
        if window.is_empty:
            return
        settings = self._settings
        bodies = page_bodies(
            self._client,
            _windows(self._client, window),
            settings.filters,
            page_size=settings.page_size,
            workers=settings.workers,
        )
        for several in _batched(bodies, BATCH_BYTES):
            batch = decode(several)
            # What a server lists from beyond the window is the next load's, as is its cursor.
            within = pc.less_equal(batch.rows[CURSOR], pa.scalar(window.before, INSTANT))
            yield Batch(batch.rows.filter(within), batch.unreadable)

    def _asked_again(self, again: AskAgain) -> Iterator[Batch]:
        ids = again.ids
        if not ids:
            return
        with ThreadPoolExecutor(self._settings.workers) as pool:
            found = dict(zip(ids, pool.map(self._client.enrollment, ids), strict=True))
        self._released += again.gone(key for key, row in found.items() if row is None)
        rows = [row for row in found.values() if row is not None]
        yield decode([b'{"enrollments":[' + b",".join(rows) + b"]}"])


class _TablesSoFar:
    """The warehouse's tables as dlt knows them, with what this load has added."""

    def __init__(self, schema: dlt.Schema) -> None:
        self._naming = schema.naming
        self._made = {name for name in _BY_NAME if name in schema.tables}
        self._loaded_before = ENROLLMENTS.name in self._made
        self._types = {
            (name, column): str(hints["data_type"])
            for name in self._made
            for column, hints in schema.tables[name]["columns"].items()
            if "data_type" in hints
        }

    def missing(self) -> list[Table]:
        """Return the tables that nothing has been written to yet."""
        return [table for name, table in _BY_NAME.items() if name not in self._made]

    def splitting(self) -> Splitting:
        """Say how to split for this warehouse; nothing can have vanished from an empty one."""
        return Splitting(
            normalize=self._naming.normalize_path,
            known_type=lambda table, column: self._types.get((table, column)),
            tombstones=self._loaded_before,
        )

    def hinted(self, name: str, table: pa.Table, *, even_empty: bool = False) -> Iterator[Any]:
        """Yield a table as dlt wants it, if it has rows."""
        if not len(table) and not even_empty:
            return
        self._made.add(name)
        for item in table.schema:
            kind = "json" if _is_json(item) else _ARROW_TO_DLT.get(item.type)
            if kind:
                self._types.setdefault((name, item.name), kind)
        yield dlt.mark.with_hints(
            table, _hints(_BY_NAME[name], table.schema), create_table_variant=True
        )


_ARROW_TO_DLT = {
    TEXT: "text",
    pa.bool_(): "bool",
    pa.int64(): "bigint",
    pa.float64(): "double",
    INSTANT: "timestamp",
}
_NO_ROWS = pa.table({KEY: pa.array([], TEXT), CURSOR: pa.array([], INSTANT)})


def _hints(table: Table, schema: pa.Schema) -> Any:
    columns: dict[str, Any] = {
        item.name: {"data_type": "json"} for item in schema if _is_json(item)
    }
    newest = "seen_at" if table is QUARANTINE else CURSOR if table is ENROLLMENTS else AS_OF
    columns[newest] = {"dedup_sort": "desc"}
    if DELETED in schema.names:
        columns[DELETED] = {"hard_delete": True}
    merge: Any = {"disposition": "merge", "strategy": "delete-insert"}
    if owner := table.dies_with:
        # By its own key as well: a reply may have moved here from another enrollment.
        among_loaded = "{0} IN (SELECT {0} FROM {{staging_table}})"
        merge["destination_scope"] = " OR ".join(map(among_loaded.format, (KEY, owner)))
    return dlt.mark.make_hints(
        table_name=table.name, primary_key=KEY, write_disposition=merge, columns=columns
    )


def _is_json(item: pa.Field) -> bool:
    return (item.metadata or {}) == {k.encode(): v.encode() for k, v in JSON.items()}


def _item(rows: pa.Table, cursor: str, floor: datetime, ceiling: datetime) -> pa.Table:
    # A row asked for by id lies outside of the window; clamped, dlt's filter lets it through and
    # the cursor stays within.
    low, high = pa.scalar(floor, INSTANT), pa.scalar(ceiling, INSTANT)
    at = pc.if_else(pc.less(rows[CURSOR], low), low, rows[CURSOR])
    at = pc.if_else(pc.greater(at, high), high, at)
    return pa.table({cursor: at, _ROW: rows.to_struct_array()})


def _cursor(settings: Settings) -> Any:
    text = orjson.dumps(settings.filters)
    name = f"{CURSOR}_{blake2b(text, digest_size=6).hexdigest()}" if settings.filters else CURSOR
    return dlt.sources.incremental[datetime](
        name, initial_value=settings.start, lag=settings.lookback.total_seconds()
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


def _earlier(start: datetime | None, other: datetime | None) -> datetime | None:
    return min(start, other) if start and other else start


def _windows(client: Client, window: Window) -> list[Window]:
    """Cut off the time before the first row, so that the rest can be cut by time."""
    if window.after is not None:
        return [window]
    first = first_instant(client, window.before)
    return cut(window, [first] if first else [])


def _batched(bodies: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    total = 0
    for body in bodies:
        batch.append(body)
        total += len(body)
        if total >= size:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
