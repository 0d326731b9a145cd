"""Reads, decodes, sifts and splits one window.

A straight pipe: pages -> batch -> new rows -> tables. State changes only at its end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.api.by_id import rows_by_id
from unify_source.api.client import Client
from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.resources import CURSOR, Resource, Table
from unify_source.common.settings import Settings
from unify_source.common.times import EPOCH
from unify_source.extract.pagination import follow
from unify_source.extract.reader import MOST_WIDE_BYTES, Reading
from unify_source.extract.window import Interval, Span, Window, refuse_set_back, wrong_clock
from unify_source.flatten.decode.batches import decoded, joined, up_to
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.quarantine import quarantined
from unify_source.flatten.shared import Shared
from unify_source.flatten.split import split
from unify_source.load.extraction.target import Tables, Target
from unify_source.load.state.cursors import Cursors
from unify_source.load.state.late import Late
from unify_source.load.state.memory import Memory, Sifted
from unify_source.load.state.unsettled import WARNING

_log = logging.getLogger(__name__)


class Extraction:
    """Reads one window of a resource, and rows by their `ids`, and splits them into tables.

    Once `batches` has ended, `covered` is the part of `window` that was read completely, `rows`
    counts the keys to write, `pages` the pages read, `late` the rows that became visible late, and
    `reading` reads ahead the rest of the span for the next extraction.
    """

    def __init__(
        self,
        resource: Resource,
        quarantine: Table,
        settings: Settings,
        client: Client,
        span: Span | None = None,
        interval: Interval | None = None,
        reading: Reading | None = None,
        ids: Sequence[str] = (),
    ) -> None:
        self.reading = reading
        self.covered: Window | None = None
        self.window: Window | None = None
        self.cursors: Cursors | None = None
        self.late: Late | None = None
        self.rows = self.pages = 0
        self._resource, self._quarantine = resource, quarantine
        self.settings, self._client = settings, client
        self._span, self.ids = span, list(ids)
        self._interval = interval or Interval()
        self._read_at = EPOCH
        # That is, of a run.
        self._is_first = span is None or span.window.after is None
        self._unsettled: list[Window] = []

    @property
    def rest(self) -> Window | None:
        """Return the part of the span's window that is left, None if all of it was read."""
        return self._span.rest(self.covered) if self._span and self.covered else None

    @property
    def left(self) -> timedelta:
        """Return the range of `updated_at` that is left of the longer run, zero if unknown.

        With the newest first it is unknown: the range may begin long before the first row.
        """
        rest = None if self._span and self._span.newest_first else self.rest
        return rest.before - rest.after if rest and rest.after else timedelta()

    def batches(self, target: Target) -> Iterator[Tables]:
        """Yield the tables of each batch; at the end, store what the next run needs.

        Stopping before the end leaves the state and the cursors as they were.
        """
        self.cursors = target.cursors
        asked = self._window(target)
        memory = self._memory(target, asked)
        window = self.window = Window(memory.start, asked.before)
        if target.moves_cursors:
            refuse_set_back(window)
        ids = [*memory.ids, *self.ids]
        # An orchestrator's interval counts too: there may be no other runs.
        is_due = self._is_first and (target.moves_cursors or self._interval.end is not None)
        again = target.cursors.unsettled_beside(window) if is_due else []
        newest, shared = EPOCH, Shared(target.carried)
        for sifted in self._sifted(window, again, ids, memory, target):
            newest = max(newest, pc.max(sifted.rows[CURSOR]).as_py() or EPOCH)
            tables = self._tables(sifted, target)
            shared.note(sifted.rows, sifted.new, tables)
            yield tables
        if carriers := shared.left_behind():
            lost = "What it shared with another row is gone for now."
            for batch, _ in self._asked(carriers, lost, target):
                yield self._tables(memory.carried(batch), target)
        if target.sample_pages is None:
            # A filter may hide a row that is still there.
            gone = [] if self.settings.filters else memory.vanished(self.covered or window)
            if gone:
                yield {self._quarantine.name: quarantined([], datetime.now(timezone.utc), gone)}
            self._end(memory, target, self.covered or window, newest)
            read, is_once = [*again, self.covered or window], not target.moves_cursors
            target.cursors.settle(read, self._unsettled, is_once=is_once)
        pa.default_memory_pool().release_unused()

    def _end(self, memory: Memory, target: Target, covered: Window, newest: datetime) -> None:
        memory.end(covered, self.reading.counted if self.reading else set())
        self.rows, self.late = memory.rows, memory.late
        if target.moves_cursors and newest > EPOCH:
            target.cursors.advance(min(newest, covered.before))

    def _memory(self, target: Target, window: Window) -> Memory:
        dependents = (part.table for part in self._resource.parts if part.table.dies_with)
        has_rows = any(target.warehouse.has(table.name) for table in dependents)
        # The clock that is behind: a row wrongly taken for new would keep a reply that it lost.
        filled_at = min(window.before, datetime.now(timezone.utc))
        empty_at = None if has_rows else filled_at
        return target.memory(self.settings, window.after, empty_at, is_first=self._is_first)

    def _window(self, target: Target) -> Window:
        if self._span:
            window = self._span.window
            return Window(window.after or self._start(target), window.before)
        # The server's clock, never ours: a window closed by a clock that is ahead would cover a
        # time whose rows are not written yet, and the cursor would skip them.
        now, end = self._client.server_time(self._resource), self._interval.end
        if warning := wrong_clock(now, datetime.now(timezone.utc)):
            _log.warning(warning)
        return Window(self._start(target), min(end or now, now))

    def _start(self, target: Target) -> datetime | None:
        cursors = target.cursors if target.moves_cursors else None
        # As in dlt, an initial value without an end counts until there is a cursor.
        first = None if cursors and cursors.oldest else self._interval.start
        earliest = max(filter(None, [first, self.settings.start]), default=None)
        return cursors.start(earliest, self.settings.lookback) if cursors else earliest

    def _sifted(
        self, window: Window, again: list[Window], ids: list[str], memory: Memory, target: Target
    ) -> Iterator[Sifted]:
        stays, released = f"It stays in {self._quarantine.name}.", 0
        for batch, gone in self._asked(ids, stays, target):
            asked = memory.sift(batch, is_listed=False)
            asked.released.extend(memory.gone(gone))
            if not asked.is_empty:
                yield asked
            released += asked.rows.nbytes
            # The others stay in quarantine until the next run: one load has to fit the memory.
            if released > MOST_WIDE_BYTES and not self.ids:
                break
        unsettled = self._decoded(self._new_reading(again)) if again else ()
        listed = () if window.is_empty else self._read(window, target)
        is_open = window.before == self._interval.end and not self._interval.closed
        for read in chain(unsettled, listed):
            batch = target.privacy.apply(self._resource, read)
            # A server may list rows beyond the window, which belong to the next load.
            sifted = memory.sift(up_to(window.before, batch, is_open=is_open), is_listed=True)
            if not sifted.is_empty:
                yield sifted

    def _read(self, window: Window, target: Target) -> Iterator[Batch]:
        if target.sample_pages is not None:
            ask, limits = partial(self._client.page, self._resource), self.settings.limits
            asked = [*self.settings.filters, ("limit", str(self.settings.page_size))]
            listed = follow(ask, asked, window, limits)
            for page in islice(listed, target.sample_pages):
                self.pages += 1
                yield decode(self._resource, [page.body], limits)
        else:
            # The next run reads again what is within the lookback.
            again_from = window.before - self.settings.lookback if target.moves_cursors else None
            if not self.reading:
                self.reading = self._new_reading([window], self._span, again_from)
            yield from self._decoded(self.reading)
            self.covered = self.reading.covered

    def _decoded(self, reading: Reading) -> Iterator[Batch]:
        bodies = self._counted(reading)
        yield from joined(decoded(self._resource, bodies, self.settings.limits))
        if reading.unsettled:
            _log.warning(WARNING, len(reading.unsettled))
            self._unsettled += reading.unsettled

    def _counted(self, reading: Reading) -> Iterator[list[bytes]]:
        for bodies in reading:
            self.pages += len(bodies)
            yield bodies

    def _new_reading(
        self, windows: list[Window], span: Span | None = None, again_from: datetime | None = None
    ) -> Reading:
        settings = self.settings
        return Reading(
            self._client,
            self._resource,
            windows,
            settings.filters,
            page_size=settings.page_size,
            workers=settings.workers,
            enough=span.enough if span else None,
            newest_first=span.newest_first if span else False,
            limits=settings.limits,
            lookback=settings.lookback,
            again_from=again_from,
            heartbeat=raise_if_signalled,
        )

    def _asked(
        self, ids: list[str], otherwise: str, target: Target
    ) -> Iterator[tuple[Batch, list[str]]]:
        """Ask for rows by their ids; yield them, each batch with ids of some that are gone."""
        settings = self.settings
        for page, gone in rows_by_id(
            self._client, self._resource, ids, workers=settings.workers, otherwise=otherwise
        ):
            read = decode(self._resource, [page], settings.limits)
            batch = target.privacy.apply(self._resource, read)
            yield batch, [*gone, *sorted(read.keys - batch.keys)]

    def _tables(self, sifted: Sifted, target: Target) -> Tables:
        # Each row counts as read a microsecond after the one before, so the last wins the merge.
        read_at = max(datetime.now(timezone.utc), self._read_at)
        self._read_at = read_at + timedelta(microseconds=len(sifted.rows))
        tables: dict[str, pa.Table] = {}
        if len(sifted.rows):
            how = target.warehouse.splitting
            tables = split(self._resource, sifted.rows, read_at, how, sifted.new)
            for name, rows in tables.items():
                target.warehouse.note(name, rows)
        tables[self._quarantine.name] = quarantined(sifted.unreadable, read_at, sifted.released)
        return {name: rows for name, rows in tables.items() if len(rows)}
