"""Runs window by window: each is read, loaded and committed before the next is loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import dlt
from dlt.common.pipeline import ExtractInfo

from unify_source.api.client import Client
from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.errors import LoadFailed
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import MAIN_LIST, QUARANTINE
from unify_source.common.settings import Settings
from unify_source.destinations.formats import keep_in_order, refuse_harm
from unify_source.destinations.locks.turns import Turns
from unify_source.destinations.stored.unfinished import UnfinishedMerges
from unify_source.extract.reader import Reading
from unify_source.extract.window import NO_TIME, Interval, Span, Window, left_after, wrong_clock
from unify_source.load.extraction.extraction import Extraction
from unify_source.load.ledger.entry import Entry
from unify_source.load.ledger.ledger import Ledger
from unify_source.load.listing.listings import Listings
from unify_source.load.packages import (
    cursor,
    quarantined,
    refuse_failed_jobs,
    refuse_vanished_files,
    start_over,
    take_back,
)
from unify_source.load.source import SOURCE, window_source
from unify_source.load.state.checked import checked_privacy
from unify_source.load.state.cursors import cursor_name
from unify_source.load.state.loaded_with import LoadedWith
from unify_source.load.tables.table_resources import TableResources
from unify_source.load.tables.window_load import AtEnd, WindowLoad
from unify_source.runs.report import Report
from unify_source.runs.windows.footprint import make_room
from unify_source.runs.windows.progress import progress_of, show_began

_APART = WindowLoad(moves_cursors=False, is_last=lambda: False)


class WindowRun:
    """One run: its client, its lock on the dataset, what it reads ahead and what it has written."""

    def __init__(
        self,
        pipeline: dlt.Pipeline,
        settings: Settings,
        lock_timeout: float | str,
        entry: Entry,
        *,
        interval: Interval | None = None,
        moves_cursors: bool = True,
        newest_first: bool = False,
        only: Collection[str] = (),
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.client = Client(settings, raise_if_signalled)
        entry.asks_with(self.client)
        self._entry, self.ledger = entry, Ledger(pipeline, settings.table_format, entry)
        self._moves_cursors, self._newest_first, self._only = moves_cursors, newest_first, only
        self._interval, self._notices = interval or Interval(), Notices()
        self._listings = Listings(settings, self.client, self._notices)
        self._checked: dict[str, LoadedWith] = {}
        self._ahead: Reading | None = None
        self._unfinished = UnfinishedMerges(pipeline, settings.account)
        self._turns, self._enrollments = Turns(pipeline, lock_timeout, entry.inherit), 0
        self._rewrites, self._tables, self._version = False, set[str](), ""
        self._progress = progress_of(pipeline.collector, settings.base_url)

    def server_time(self) -> datetime:
        """Return the server's clock, which closes the last window; add a notice if it is off."""
        now, here = self.client.server_time(MAIN_LIST), datetime.now(timezone.utc)
        if warning := wrong_clock(now, here):
            # No later run warns of a clock that was ahead.
            self._notices.add(warning, always=now > here)
        return now

    def close(self) -> None:
        """Release the lock, and drop what was read ahead: another run may now load newer rows."""
        if self._ahead:
            self._ahead.close()
            self._ahead = None
        self._listings = Listings(self.settings, self.client, self._notices)
        self._turns.release()

    def load(
        self,
        begin: Callable[[], list[Window]],
        at_end: Callable[[list[Window]], AtEnd] = lambda _left: lambda _state, _extraction: None,
    ) -> None:
        """Read and commit the windows that `begin` returns, in spans of about a window's rows.

        `at_end` gets what was left before a span, and returns what to do with the state once the
        span has been read. While one span is loaded, most of the next is read.
        """
        schema = self.next_turn()
        self.ledger.begin()
        refuse_harm(self.pipeline)
        schema = self._finish_unfinished(schema)
        left = begin()
        show_began(self._progress, left, is_known=not self._newest_first)
        while left := self._load(schema, at_end(left), left):
            schema = self.next_turn()
        self._unfinished.forget()

    def load_by_id(self, ids: Sequence[str], at_end: AtEnd, *, lists_anew: bool = False) -> None:
        """Load rows by their ids; with `lists_anew`, also rewrite the lists without windows."""
        schema = self._finish_unfinished(self.next_turn())
        self._listings.writes_all |= lists_anew
        self._load_apart(schema, Span(NO_TIME), ids, replace(_APART, at_end=at_end))
        self._unfinished.forget()

    def _load_apart(
        self, schema: dlt.Schema, span: Span, ids: Sequence[str] = (), how: WindowLoad = _APART
    ) -> None:
        """Load rows outside this run's windows, without its filters."""
        settings = self.settings.without_filters()
        extraction = Extraction(MAIN_LIST, QUARANTINE, settings, self.client, span, ids=ids)
        try:
            extracted = self._extracted(extraction, schema, how, only=())
        finally:
            if extraction.reading:
                extraction.reading.close()
        self._commit(extracted, extraction)

    def _load(self, schema: dlt.Schema, at_end: AtEnd, left: list[Window]) -> list[Window]:
        """Load a span of the first window that is left, and return what is left after it."""
        span = Span(left[0], self.settings.window_rows, self._newest_first)
        extraction = Extraction(
            MAIN_LIST, QUARANTINE, self.settings, self.client, span, self._interval, self._ahead
        )
        how = WindowLoad(
            moves_cursors=self._moves_cursors,
            at_end=at_end,
            is_last=lambda: self.ledger.is_loaded and not left_after(left, extraction.rest),
        )
        try:
            extracted = self._extracted(extraction, schema, how, self._only)
        finally:
            self._ahead = extraction.reading
        if not extraction.rest:
            self._ahead = None
        self._commit(extracted, extraction)
        return left_after(left, extraction.rest)

    def _extracted(
        self, extraction: Extraction, schema: dlt.Schema, how: WindowLoad, only: Collection[str]
    ) -> ExtractInfo:
        load = replace(
            how,
            extraction=extraction,
            listings=self._listings,
            notices=self._notices,
            checked=self._checked,
            entry=self._entry,
            rewrites=self._rewrites,
        )
        tables = TableResources(extraction.settings, self.client, load=load)
        return self.pipeline.extract(window_source(tables, schema, self.ledger, only))

    def _finish_unfinished(self, schema: dlt.Schema) -> dlt.Schema:
        """Reload what any earlier run left half merged, or let this run rewrite what it reads."""
        windows, ids = self._unfinished.half_merged()
        self._rewrites = bool(windows or ids)
        self._listings.writes_all = self._rewrites
        spans = [Span(window) for window in windows if not self._reads(window)]
        for span in [*spans, *([Span(NO_TIME)] if ids else [])]:
            self._load_apart(schema, span, [] if span in spans else ids)
            schema = start_over(self.pipeline)
        return schema

    def _reads(self, window: Window) -> bool:
        """Tell whether this run reads a window anyway, because it begins no later."""
        if not self._moves_cursors or self.settings.filters:
            return False
        at = cursor(self.pipeline, account=self.settings.account)
        start = at - self.settings.lookback if at else self.settings.start
        return start is None or (window.after is not None and start <= window.after)

    def next_turn(self) -> dlt.Schema:
        """Lock the dataset for one window, and return its schema, with its state restored.

        The lock is kept from window to window, until another run waits for it.
        """
        raise_if_signalled()
        if self._turns.is_wanted():
            self.ledger.go_on(waiting=True)
            self.close()
        self._turns.take()
        self._turns.refuse_lost()
        self.ledger.go_on()
        schema = start_over(self.pipeline)
        make_room(self.pipeline, is_first=not self._enrollments)
        # Copied, because dlt extends this object.
        self._tables, self._version = set(schema.tables), schema.version_hash
        # In each turn: another run may have reloaded everything since the last.
        self._checked = checked_privacy(self.pipeline, self.settings)
        return schema

    def _commit(self, extracted: ExtractInfo, extraction: Extraction) -> None:
        """Load one window: its rows and its progress are stored together, or neither is."""
        self.pipeline.normalize()
        # If nothing has changed, dlt extracts no package that could be loaded.
        loaded = self._write(extraction) if self.pipeline.has_pending_data else set()
        refuse_vanished_files(self.pipeline, extracted, loaded)
        if self._progress:
            self._progress.window_done(extraction.left)
        self._enrollments += extraction.rows
        self._entry.commit()

    def _write(self, extraction: Extraction) -> set[str]:
        # Without the lock, another run may have emptied or filled the staging tables.
        self._turns.refuse_lost()
        if extraction.covered or extraction.ids:
            waiting = self.pipeline.list_normalized_load_packages()
            self._unfinished.note(waiting, extraction.covered, extraction.ids)
        loaded = self.pipeline.load()
        try:
            self._turns.refuse_lost()
            refuse_failed_jobs(loaded)
        except LoadFailed:
            take_back(self.pipeline, loaded.loads_ids)
            raise
        # Unless it changed the schema, this was done in preparation for the load.
        if (now := self.pipeline.schemas[SOURCE]).version_hash != self._version:
            keep_in_order(self.pipeline, set(now.tables) - self._tables)
        return set(loaded.loads_ids)

    def report(self, command: str) -> Report:
        """Return what the whole run did."""
        return Report(
            command=command,
            pipeline=self.pipeline.pipeline_name,
            destination=self.pipeline.destination.destination_name,
            dataset=self.pipeline.dataset_name,
            enrollments=self._enrollments,
            requests=self.client.requests,
            cursor=cursor(self.pipeline, cursor_name(self.settings), self.settings.account),
            quarantined=quarantined(self.pipeline, self.settings.account),
            notices=tuple(self._notices),
            rows_by_table=self._entry.rows_by_table,
            seconds=self._entry.seconds,
        )
