"""Threads that read the pages of a window, several at a time, in no particular order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from unify_source.api.brackets import cut
from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.outline import Version
from unify_source.api.pages import Page
from unify_source.common.errors import TooLarge
from unify_source.common.resources import Resource
from unify_source.common.settings.limits import LARGEST_PAGE, Limits
from unify_source.extract.cuts.slice import Recent, Slice
from unify_source.extract.cuts.slicing import instants
from unify_source.extract.pagination import follow, follow_closely, updated_since
from unify_source.extract.portion import Check, Piece, Portion, Work
from unify_source.extract.samples.probe import first_look
from unify_source.extract.schedule import Schedule
from unify_source.extract.window import Window

# Finding the first row of a shorter list takes more requests than reading it to the end.
_LONG = 4
# Eight workers hold a page each, and parsing one takes several times its size. A hundred usual rows
# have some 60 kB.
PAGE_BYTES, MOST_PAGE_BYTES = 1 << 20, 4 << 20
_FEWER_IF_TOO_LARGE = 8
# The list is nested at the first level of a page.
_ROW_LEVEL = 2

_Read = TypeVar("_Read")


class Workers:
    """Threads that read windows, in portions of about `enough` rows.

    The first pages have at most `fitting` rows, later ones as many as fill `page_bytes`.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        filters: Parameters,
        windows: Sequence[Window],
        *,
        enough: int | None,
        workers: int,
        page_size: int,
        newest_first: bool,
        limits: Limits,
        lookback: timedelta,
        again_from: datetime | None,
        heartbeat: Callable[[], None],
        fitting: int = LARGEST_PAGE,
        page_bytes: int | None = None,
    ) -> None:
        self._page_size, self._filters, self._limits = page_size, filters, limits
        self._fitting, self._page_bytes = fitting, page_bytes or PAGE_BYTES
        self._schedule = Schedule(
            windows,
            workers=workers,
            enough=enough // self.limit + 1 if enough else None,
            newest_first=newest_first,
            again_from=again_from,
        )
        self._heartbeat = heartbeat
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._page = client.pages(resource, self._stopped)
        self._lookback = lookback
        self._threads = [
            # Python cannot end a thread that waits for a silent server. A daemon at least does not
            # keep the process alive after Ctrl-C.
            threading.Thread(target=self._work, name=f"page-{number}", daemon=True)
            for number in range(workers)
        ]

    @property
    def limit(self) -> int:
        """How many rows per page the next slice asks for: as many as fit, up to `page_size`."""
        return min(self._page_size, self._fitting)

    @property
    def portion(self) -> Portion:
        """The nearest portion that has not been yielded."""
        return self._schedule.portions[0]

    def batches(self) -> Generator[list[bytes], None, None]:
        """Yield the pages of the nearest portion. Unless all are taken, the threads stop."""
        try:
            for thread in self._threads:
                thread.start()
            self._threads = []
            yield from self.portion.queue.batches(self._heartbeat)
        except BaseException:
            self.close()
            raise

    def end_portion(self) -> Portion:
        """Return the portion whose pages were all yielded, and go on to the next."""
        # Only now: an interrupted iteration has covered nothing, whatever pages it yielded.
        with self._changed:
            return self._schedule.portions.popleft()

    def close(self, error: Exception | None = None) -> None:
        """Stop the threads and leave the rest unread. A running iteration raises the error."""
        self._stopped.set()
        with self._changed:
            for portion in self._schedule.portions:
                portion.queue.close(error)
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while work := self._next_work():
                if isinstance(work, Slice):
                    self._in_fitting_pages(partial(self._read, work))
                elif isinstance(work, Piece):
                    self._in_fitting_pages(partial(self._read_again, work))
                else:
                    self._check(work)
                with self._changed:
                    if not self._stopped.is_set():
                        # A stopped slice was not read to its end: if it counted as done, the rest
                        # would be lost.
                        self._schedule.done(work)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again where the pages are read
            self.close(error)

    def _next_work(self) -> Work | None:
        schedule = self._schedule
        with self._changed:
            while not (self._stopped.is_set() or schedule.is_ready or schedule.is_over):
                self._changed.wait()
            if self._stopped.is_set() or schedule.is_over:
                return None
            return schedule.take()

    def _in_fitting_pages(self, read: Callable[[int], _Read], most: int | None = None) -> _Read:
        """Read with a limit of rows per page, and again with a lower one if a page is too large."""
        limit = min(most or self._page_size, self._fitting)
        while True:
            try:
                return read(limit)
            except TooLarge:
                if limit == 1:
                    raise
                self._fitting = limit = max(1, limit // _FEWER_IF_TOO_LARGE)

    def _read(self, slice_: Slice, limit: int) -> None:
        while not self._has_read(slice_, limit):
            # Another slice may have raised it meanwhile: the limit must fall each time.
            limit = min(self.limit, limit - 1)

    def _has_read(self, slice_: Slice, limit: int) -> bool:
        """Read a slice to its end or its cut; False if it needs a lower limit."""
        asked_at = time.monotonic()
        for page in follow(self._page, self._parameters(limit), slice_.window, self._limits):
            self._note_width(page)
            if not slice_.pages:
                if len(page.body) > MOST_PAGE_BYTES and self.limit < limit:
                    return False
                took = timedelta(seconds=time.monotonic() - asked_at)
                slice_.begin(page, took + self._lookback)
            # Outside the lock: `put` waits while the queue is full, and would block all workers.
            slice_.portion.queue.put(page.body, len(page.versions))
            slice_.note(page)
            with self._changed:
                is_due = self._schedule.count_page(slice_)
                if slice_.portion.is_full and self._schedule.idle:
                    self._changed.notify_all()
            if self._stopped.is_set() or page.next_cursor is None:
                return True
            if is_due and self._cut(slice_, page):
                return True
        return True

    def _check(self, check: Check) -> None:
        def updated(since: datetime | None) -> set[Version] | None:
            look = partial(updated_since, self._page, since, check.most_pages)
            return self._in_fitting_pages(look, LARGEST_PAGE)

        since = check.changed_from
        recent = updated(since)
        is_whole = recent is not None or check.is_last or check.is_fast
        if since and not is_whole:
            # Without the changes that may be listed late, to see whether rows change right now.
            recent = updated(since + self._lookback)
        changed = None if recent is None else Recent.of(recent)
        with self._changed:
            self._schedule.checked(check, changed, is_whole=is_whole)

    def _parameters(self, limit: int) -> Parameters:
        return [*self._filters, ("limit", str(limit))]

    def _note_width(self, page: Page) -> None:
        rows, size = len(page.versions), len(page.body)
        if size > self._page_bytes:
            # The longest row says nothing about the others: a hundred rows may include it as well.
            rows, size = rows - 1, size - max(map(len, cut(page.body, _ROW_LEVEL)[1]), default=0)
        if rows > 0:
            self._fitting = max(1, self._page_bytes * rows // size)

    def _cut(self, slice_: Slice, page: Page) -> bool:
        at = instants(page)
        if slice_.pages >= _LONG and slice_.lacks_past(at):
            first = first_look(self._page, slice_.window.before)
            with self._changed:
                self._schedule.cut_off_past(slice_, first)
                self._changed.notify_all()
        with self._changed:
            return self._schedule.cut(slice_, at)

    def _read_again(self, piece: Piece, limit: int) -> None:
        """Read a piece in one request, which cannot skip a row."""

        def ask(parameters: Parameters) -> Page | None:
            with self._changed:
                if self._stopped.is_set() or not piece.portion.may_read_again():
                    return None
            page = self._page(parameters)
            piece.portion.queue.put(page.body, len(page.versions))
            return page

        asked = self._parameters(limit)
        page = ask([*asked, *piece.window.parameters()])
        if page and page.next_cursor is None:
            return
        with self._changed:
            if page and piece.cut(instants(page)):
                return
        if not (page and follow_closely(ask, asked, piece.window)):
            with self._changed:
                piece.portion.unsettled.append(piece.window)
