"""One load: a window read, decoded, told from what is known, and split into hinted tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.runtime.signals import raise_if_signalled

from unify_source.api.client import Client
from unify_source.errors import LoadFailed, RowUnavailable
from unify_source.extract.reader import Reading, first_instant
from unify_source.extract.window import Window, cut
from unify_source.flatten.batches import decoded, joined
from unify_source.flatten.decode import Batch, decode
from unify_source.flatten.row_by_row import Unreadable
from unify_source.flatten.split import empty, quarantined, released, split
from unify_source.load.schema import News, Warehouse
from unify_source.load.state import AskAgain, State, Tail
from unify_source.resources import (
    BY_NAME,
    CURSOR,
    ENROLLMENT_LIST,
    INSTANT,
    QUARANTINE,
    TEXT,
    Table,
)
from unify_source.settings import Settings
from unify_source.times import EPOCH

_log = logging.getLogger(__name__)

TICKET = "batch"


@dataclass(frozen=True)
class Known:
    """Rows that were read, and for each whether it is new to the warehouse."""

    rows: pa.Table
    new: pa.Array


@dataclass(frozen=True)
class Part:
    """Which part of a longer run one load reads, where it is not all that changed.

    `window` is closed. About `enough` rows are read of it, the oldest first or, with
    `newest_first`, the newest; None reads all.
    """

    window: Window
    enough: int | None = None
    newest_first: bool = False


class Load:
    """Reads one window in batches, and splits what comes back of them.

    Once `batches` has ended, `covered` is the window that was read whole, `enrollments` is how many
    it passed on, and `reading` reads ahead what is left of the part, for the load after this one.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        part: Part | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.reading = reading
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
        self._held: dict[str, Known] = {}
        self._split_at = EPOCH

    @property
    def rest(self) -> Window | None:
        """Return what is left of the part's window, None where all of it was read."""
        if not self._part or not self.covered:
            return None
        window, covered = self._part.window, self.covered
        if self._part.newest_first:
            after, before = window.after, covered.after or window.after
        else:
            after, before = covered.before, window.before
        return Window(after, before) if after and before and after < before else None

    @property
    def left(self) -> timedelta:
        """Return the range of `updated_at` that is left of the longer run, none where unknown.

        The newest first, it may reach back to long before the first row.
        """
        if not self._part or self._part.newest_first or not (rest := self.rest):
            return timedelta()
        return rest.before - (rest.after or rest.before)

    def batches(
        self,
        warehouse: Warehouse,
        state: State,
        cursor: str | None,
        start: datetime | None,
        end: datetime | None = None,
    ) -> Iterator[pa.Table]:
        """Yield a ticket for each batch that was read, dlt's cursor beside it: see `tables`.

        Reads from `start` on, until before `end` where it is given. Only the last ticket moves the
        cursor, to where every row had been read. The state is written after it; stopping before
        leaves both as they were.
        """
        self._warehouse = warehouse
        again = self._ask_again(state, is_sync=cursor is not None and end is None)
        own = None if end else cursor
        tail = Tail(state.get("tails", {}), own, self._settings.lookback)
        column = cursor or CURSOR
        window = self._window(start, end, again)
        self._end = end
        news = News(warehouse, state, window.before, self._settings.lookback)
        newest: datetime | None = None
        for rows, is_listed in self._rows(window, again, tail):
            newest = max(newest or EPOCH, pc.max(rows[CURSOR]).as_py() or EPOCH)
            new = news.of(rows, is_listed=is_listed)
            yield self._ticket(column, [start or EPOCH], Known(rows, new))
        covered = self.covered or window
        if newest:
            yield self._ticket(column, [max(start or EPOCH, min(newest, covered.before))])
        # One without rows tells that the load ends, and where tables are still to be made.
        if newest or warehouse.missing():
            yield self._ticket(column, [])
        if self._held:
            raise LoadFailed(
                "dlt dropped rows that were read, so the window was not committed.",
                "Nothing is lost: run it again. If it stays so, please report it.",
            )
        self.enrollments = tail.enrollments
        self._remember(state, again, tail, covered)
        news.remember(state, covered.before)
        pa.default_memory_pool().release_unused()

    def tables(self, tickets: pa.Table) -> Iterator[tuple[Table, pa.Table]]:
        """Yield the tables of these batches that have rows, and at first those that are empty."""
        for ticket in tickets[TICKET].to_pylist():
            if batch := self._held.pop(ticket, None):
                yield from self._tables(batch)
        if not len(tickets):
            for table in self._known_warehouse().missing():
                yield table, empty(table)

    def _tables(self, batch: Known) -> Iterator[tuple[Table, pa.Table]]:
        # Every row is read a microsecond after the one before it: the last one wins the merge.
        seen_at = max(datetime.now(timezone.utc), self._split_at)
        self._split_at = seen_at + timedelta(microseconds=len(batch.rows))
        set_aside, self._set_aside = self._set_aside, []
        ids, self._released = self._released, []
        warehouse = self._known_warehouse()
        if len(batch.rows):
            made = split(batch.rows, seen_at, warehouse.splitting, batch.new)
            yield from self._written((BY_NAME[name], table) for name, table in made.items())
        quarantine = [quarantined(set_aside, seen_at), released(pa.array(ids, TEXT), seen_at)]
        yield from self._written((QUARANTINE, table) for table in quarantine)

    def _ticket(self, cursor: str, at: list[datetime], batch: Known | None = None) -> pa.Table:
        # dlt compares and copies what passes its cursor: the rows need not. Without a lookback it
        # drops what is the same as in an earlier run: no ticket is.
        ticket = uuid4().hex
        if batch:
            self._held[ticket] = batch
        return pa.table({cursor: pa.array(at, INSTANT), TICKET: pa.array([ticket] * len(at), TEXT)})

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

    def _ask_again(self, state: State, *, is_sync: bool) -> AskAgain:
        # A range is read as it was asked for; what is in quarantine waits for the next sync.
        is_first = self._part is None or self._part.window.after is None
        is_whole = not self._settings.filters
        return AskAgain(state, asks=is_sync and is_first, rereads=is_sync and is_whole)

    def _window(self, start: datetime | None, end: datetime | None, again: AskAgain) -> Window:
        if self._part:
            after = self._part.window.after or start
            return Window(again.begin(after), self._part.window.before)
        now = self._client.server_time(ENROLLMENT_LIST)
        return Window(again.begin(start), min(end or now, now))

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
        self.reading = self.reading or self._new_reading(window)
        for batch in joined(decoded(self.reading)):
            yield Batch(self._within(batch.rows, window), batch.unreadable), True
        self.covered = self.reading.covered

    def _new_reading(self, window: Window) -> Reading:
        settings, part = self._settings, self._part
        return Reading(
            self._client,
            ENROLLMENT_LIST,
            _windows(self._client, window),
            settings.filters,
            page_size=settings.page_size,
            workers=settings.workers,
            enough=part.enough if part else None,
            newest_first=part.newest_first if part else False,
            heartbeat=raise_if_signalled,
        )

    def _within(self, rows: pa.Table, window: Window) -> pa.Table:
        # What a server lists from beyond the window is the next load's, as is its cursor.
        compare = pc.less if window.before == self._end else pc.less_equal
        inside = compare(rows[CURSOR], pa.scalar(window.before, INSTANT))
        return rows if pc.all(inside).as_py() else rows.filter(inside)

    def _asked_again(self, again: AskAgain) -> Iterator[Batch]:
        ids = again.ids
        if not ids:
            return
        with ThreadPoolExecutor(self._settings.workers) as pool:
            found = dict(zip(ids, pool.map(self._row, ids), strict=True))
        self._released += again.gone(key for key, row in found.items() if row is None)
        rows = [row for row in found.values() if isinstance(row, bytes)]
        yield decode([b'{"enrollments":[' + b",".join(rows) + b"]}"])

    def _row(self, key: str) -> bytes | RowUnavailable | None:
        try:
            return self._client.row(ENROLLMENT_LIST, key)
        except RowUnavailable as error:
            _log.warning("%s", error)
            return error

    @staticmethod
    def _remember(state: State, again: AskAgain, tail: Tail, covered: Window) -> None:
        for name in ("ask_again", "reread_from", "tails"):
            state.pop(name, None)
        state.update(again.state(tail.in_two_versions(), covered))
        if tails := tail.state():
            state["tails"] = tails


def _windows(client: Client, window: Window) -> list[Window]:
    """Cut off the time before the first row, so that the rest can be cut by time."""
    if window.after is not None:
        return [window]
    first = first_instant(client, ENROLLMENT_LIST, window.before)
    return cut(window, [first] if first else [])
