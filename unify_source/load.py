"""One load: a window read, decoded, told from what is known, and split into hinted tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.runtime.signals import raise_if_signalled

from unify_source.client import Client
from unify_source.decode import Batch, decode
from unify_source.memory import AskAgain, State, Tail
from unify_source.oddities import Unreadable, parse_instant
from unify_source.reader import Reading, first_instant
from unify_source.settings import Settings
from unify_source.split import Splitting, empty, is_json, quarantined, released, split
from unify_source.tables import CURSOR, ENROLLMENTS, INSTANT, KEY, QUARANTINE, TABLES, TEXT, Table
from unify_source.window import EPOCH, Window, cut, rfc3339

BATCH_BYTES = 16 << 20

ROW, NEW = "enrollment", "new"

_BY_NAME = {table.name: table for table in (*TABLES, QUARANTINE)}
_ARROW_TO_DLT = {
    TEXT: "text",
    pa.bool_(): "bool",
    pa.int64(): "bigint",
    pa.float64(): "double",
    INSTANT: "timestamp",
}
_NO_ROWS = pa.table({KEY: pa.array([], TEXT), CURSOR: pa.array([], INSTANT)})


@dataclass(frozen=True)
class Part:
    """Which part of a longer run one load reads, where it is not all that changed.

    `window` is closed. About `enough` rows are read of it, the oldest first or, with
    `newest_first`, the newest; None reads all.
    """

    window: Window
    enough: int | None = None
    newest_first: bool = False


class Warehouse:
    """The tables as dlt's schema knows them, with what this load adds."""

    def __init__(self, schema: Any, *, json_columns: bool = True) -> None:
        self._made = {name for name in _BY_NAME if name in schema.tables}
        self.is_empty = ENROLLMENTS.name not in self._made
        self._types = {
            (name, column): str(hints["data_type"])
            for name in self._made
            for column, hints in schema.tables[name]["columns"].items()
            if "data_type" in hints
        }
        self.splitting = Splitting(
            normalize=schema.naming.normalize_path,
            known_type=lambda table, column: self._types.get((table, column)),
            json_columns=json_columns,
        )

    def missing(self) -> list[Table]:
        """Return the tables that nothing has been written to yet."""
        return [table for name, table in _BY_NAME.items() if name not in self._made]

    def note(self, name: str, schema: pa.Schema) -> None:
        """Keep in mind what is written to a table."""
        self._made.add(name)
        for item in schema:
            kind = "json" if is_json(item) else _ARROW_TO_DLT.get(item.type)
            if kind:
                self._types.setdefault((name, item.name), kind)


class Load:
    """Reads one window in batches, and splits what comes back of them.

    Once `batches` has ended, `covered` is the window that was read whole, and `enrollments` is how
    many it passed on.
    """

    def __init__(self, settings: Settings, client: Client, part: Part | None = None) -> None:
        self.covered: Window | None = None
        self.enrollments = 0
        self.table_format = settings.table_format
        self._settings = settings
        self._client = client
        self._part = part
        self._warehouse: Warehouse | None = None
        self._end: datetime | None = None
        self._set_aside: list[Unreadable] = []
        self._released: list[str] = []

    def batches(
        self,
        warehouse: Warehouse,
        state: State,
        cursor: str | None,
        start: datetime | None,
        end: datetime | None = None,
    ) -> Iterator[pa.Table]:
        """Yield batches: rows, dlt's cursor beside them, and whether they are new to the warehouse.

        Reads from `start` on, until before `end` where it is given. Only the last batch moves the
        cursor, to where every row had been read. The state is written after it; stopping before
        leaves both as they were.
        """
        self._warehouse = warehouse
        # A range is read as it was asked for; what is in quarantine waits for the next sync.
        again = AskAgain(state, ask=end is None)
        tails = state.get("tails", {})
        tail = Tail({} if end else tails.get(cursor, {}), self._settings.lookback)
        column = cursor or CURSOR
        window = self._window(start, end, again)
        self._end = end
        news = _News(warehouse, state, window.before, self._settings.lookback)
        held: tuple[pa.Table, pa.Array] | None = None
        newest = EPOCH
        for rows, is_listed in self._rows(window, again, tail):
            if held:
                yield _item(*held, column, start or EPOCH)
            held = (rows, news.of(rows, is_listed=is_listed))
            newest = max(newest, pc.max(rows[CURSOR]).as_py() or EPOCH)
        covered = self.covered or window
        if held:
            yield _item(*held, column, max(start or EPOCH, min(newest, covered.before)))
        if warehouse.missing():
            yield _item(_NO_ROWS, pa.array([], pa.bool_()), column, EPOCH)
        self.enrollments = tail.enrollments
        self._remember(state, None if end else cursor, again, tail)
        news.remember(state, covered.before)

    def tables(self, item: pa.Table) -> Iterator[tuple[Table, pa.Table]]:
        """Yield the tables of one batch that have rows, and at first those that are empty."""
        seen_at = datetime.now(timezone.utc)
        set_aside, self._set_aside = self._set_aside, []
        ids, self._released = self._released, []
        warehouse = self._known_warehouse()
        if len(item):
            rows = pa.Table.from_struct_array(item[ROW])
            made = split(rows, seen_at, warehouse.splitting, item[NEW])
            yield from self._written((_BY_NAME[name], table) for name, table in made.items())
        quarantine = [quarantined(set_aside, seen_at), released(pa.array(ids, TEXT), seen_at)]
        yield from self._written((QUARANTINE, table) for table in quarantine)
        if not len(item):
            for table in warehouse.missing():
                yield table, empty(table)

    def _written(
        self, tables: Iterable[tuple[Table, pa.Table]]
    ) -> Iterator[tuple[Table, pa.Table]]:
        for table, rows in tables:
            if len(rows):
                self._known_warehouse().note(table.name, rows.schema)
                yield table, rows

    def _known_warehouse(self) -> Warehouse:
        assert self._warehouse is not None, "tables come of batches"  # noqa: S101 - our own order
        return self._warehouse

    def _window(self, start: datetime | None, end: datetime | None, again: AskAgain) -> Window:
        if self._part:
            after = self._part.window.after or start
            return Window(_earlier(after, again.reread_from), self._part.window.before)
        now = self._client.server_time()
        return Window(_earlier(start, again.reread_from), min(end or now, now))

    def _rows(self, window: Window, again: AskAgain, tail: Tail) -> Iterator[tuple[pa.Table, bool]]:
        for batch, is_listed in self._read(window, again):
            self._set_aside += again.news(batch.unreadable)
            self._released += again.released(batch.rows)
            rows = tail.unseen(batch.rows)
            if len(rows) or self._set_aside or self._released:
                yield rows, is_listed

    def _read(self, window: Window, again: AskAgain) -> Iterator[tuple[Batch, bool]]:
        for batch in self._asked_again(again):
            yield batch, False
        if window.is_empty:
            return
        settings, part = self._settings, self._part
        reading = Reading(
            self._client,
            _windows(self._client, window),
            settings.filters,
            page_size=settings.page_size,
            workers=settings.workers,
            enough=part.enough if part else None,
            newest_first=part.newest_first if part else False,
            heartbeat=raise_if_signalled,
        )
        for bodies in _batched(reading, BATCH_BYTES):
            batch = decode(bodies)
            yield Batch(batch.rows.filter(self._within(batch.rows, window)), batch.unreadable), True
        self.covered = reading.covered

    def _within(self, rows: pa.Table, window: Window) -> pa.ChunkedArray:
        # What a server lists from beyond the window is the next load's, as is its cursor.
        compare = pc.less if window.before == self._end else pc.less_equal
        return compare(rows[CURSOR], pa.scalar(window.before, INSTANT))

    def _asked_again(self, again: AskAgain) -> Iterator[Batch]:
        ids = again.ids
        if not ids:
            return
        with ThreadPoolExecutor(self._settings.workers) as pool:
            found = dict(zip(ids, pool.map(self._client.enrollment, ids), strict=True))
        self._released += again.gone(key for key, row in found.items() if row is None)
        rows = [row for row in found.values() if row is not None]
        yield decode([b'{"enrollments":[' + b",".join(rows) + b"]}"])

    @staticmethod
    def _remember(state: State, cursor: str | None, again: AskAgain, tail: Tail) -> None:
        for name in ("ask_again", "reread_from"):
            state.pop(name, None)
        state.update(again.state(tail.in_two_versions()))
        if cursor is None:
            return
        tails = {name: known for name, known in state.get("tails", {}).items() if name != cursor}
        own = tail.state()
        state["tails"] = {**tails, cursor: own} if own else tails


class _News:
    """Tells which rows the warehouse cannot have held before, in any version.

    The first load found it empty, at a known instant of the server's clock. A row that was updated
    before then, and is read behind the cursor, is read for the first time: a newer version would
    stand later. It spares the first loads a million marks for replies that were never there.
    """

    def __init__(
        self, warehouse: Warehouse, state: State, closed_at: datetime, lookback: timedelta
    ) -> None:
        first = state.get("empty_until")
        if first is None:
            first = rfc3339(closed_at - lookback if warehouse.is_empty else EPOCH)
        self._empty_until: str = first
        self._loaded_until: str = state.get("loaded_until", rfc3339(EPOCH))
        self._newest = EPOCH

    def of(self, rows: pa.Table, *, is_listed: bool) -> pa.Array:
        """Return for each row whether it is new; one that was asked for by id is not."""
        if not is_listed or not len(rows):
            return pa.repeat(pa.scalar(value=False), len(rows))
        self._newest = max(self._newest, pc.max(rows[CURSOR]).as_py())
        after = pc.greater(rows[CURSOR], _scalar(self._loaded_until))
        return pc.and_(after, pc.less_equal(rows[CURSOR], _scalar(self._empty_until)))

    def remember(self, state: State, covered_until: datetime) -> None:
        """Note how far has been loaded, for as long as it matters."""
        state["empty_until"] = self._empty_until
        newest = min(self._newest, covered_until)
        loaded_until = max(self._loaded_until, rfc3339(newest))
        state["loaded_until"] = min(loaded_until, self._empty_until)


def ended(batches: Iterator[pa.Table], cursor: str | None) -> Iterator[pa.Table]:
    """Pass batches on, with one without rows behind the last that tells so; none after none."""
    batch = None
    for batch in batches:
        yield batch
    if batch is not None:
        yield _item(_NO_ROWS, pa.array([], pa.bool_()), cursor or CURSOR, EPOCH)


def _scalar(instant: str) -> pa.Scalar:
    return pa.scalar(parse_instant(instant), INSTANT)


def _item(rows: pa.Table, new: pa.Array, cursor: str, at: datetime) -> pa.Table:
    """Make a batch with one cursor value throughout, so that dlt keeps it whole."""
    at_all = pa.repeat(pa.scalar(at, INSTANT), len(rows))
    # Older Arrow cannot make structs of a table without rows.
    none = pa.chunked_array([], type=pa.struct(list(rows.schema)))
    structs = rows.to_struct_array() if len(rows) else none
    return pa.table({cursor: at_all, ROW: structs, NEW: new})


def _earlier(start: datetime | None, other: datetime | None) -> datetime | None:
    return min(start, other) if start and other else start


def _windows(client: Client, window: Window) -> list[Window]:
    """Cut off the time before the first row, so that the rest can be cut by time."""
    if window.after is not None:
        return [window]
    first = first_instant(client, window.before)
    return cut(window, [first] if first else [])


def _batched(bodies: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
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
