"""Reads every page of a closed window, several at a time, in no particular order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.extract.pagination import follow, follow_closely, updated_since
from unify_source.extract.portion import Piece, Slice, Work
from unify_source.extract.probe import first_look, instants
from unify_source.extract.schedule import Schedule
from unify_source.extract.window import Window, joined
from unify_source.limits import USUAL, Limits
from unify_source.resources import Resource

# Finding the first row of a shorter list takes more requests than reading it to the end.
_LONG = 4


class Reading:
    """The pages of adjoining windows, read by threads that share the work in slices.

    Iterating yields batches of page bodies in the order of arrival, some perhaps twice, while the
    threads read ahead. A page that cannot be read raises its ApiError at once. Only an iteration
    that ends by itself is complete: then every row of the window `covered` was read. That is the
    whole or, once there are `enough` rows, a portion that ends at the boundary of a slice: the
    oldest or, with `newest_first`, the newest. Iterate again for the next portion, most of which
    may have been read by then, or call `close`. In the windows `unsettled`, oldest first, changing
    rows may have hidden others. `heartbeat` is called at least twice a second; raising there ends
    the iteration.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        windows: Sequence[Window],
        filters: Parameters,
        *,
        page_size: int,
        workers: int,
        enough: int | None = None,
        newest_first: bool = False,
        limits: Limits = USUAL,
        lookback: timedelta = timedelta(),
        again_from: datetime | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._schedule = Schedule(
            windows,
            workers=workers,
            enough=enough // page_size + 1 if enough else None,
            newest_first=newest_first,
            again_from=again_from,
        )
        self.covered = self._schedule.portions[0].window
        self.unsettled: list[Window] = []
        self._parameters = [*filters, ("limit", str(page_size))]
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

    def __iter__(self) -> Iterator[list[bytes]]:
        portions = self._schedule.portions
        try:
            for thread in self._threads:
                thread.start()
            self._threads = []
            yield from portions[0].queue.batches(self._heartbeat)
        except BaseException:
            self.close()
            raise
        with self._changed:
            # Only now: an interrupted iteration has covered nothing, whatever pages it yielded.
            portion = portions.popleft()
            self.covered, self.unsettled = portion.window, joined(portion.unsettled)

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
                    self._read(work)
                elif isinstance(work, Piece):
                    self._read_again(work)
                else:
                    recent = updated_since(self._page, work.changed_from, work.most_pages)
                    with self._changed:
                        self._schedule.checked(work, recent)
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

    def _read(self, slice_: Slice) -> None:
        asked_at = time.monotonic()
        for page in follow(self._page, self._parameters, slice_.window, self._limits):
            if not slice_.pages:
                took = timedelta(seconds=time.monotonic() - asked_at)
                slice_.begin(page, took + self._lookback)
            # Outside the lock: `put` waits while the queue is full, and would block all workers.
            slice_.portion.queue.put(page.body)
            slice_.note(page)
            with self._changed:
                is_due = self._schedule.count_page(slice_)
                if slice_.portion.is_full and self._schedule.idle:
                    self._changed.notify_all()
            if self._stopped.is_set() or page.next_cursor is None:
                return
            if is_due and self._cut(slice_, page):
                return

    def _cut(self, slice_: Slice, page: Page) -> bool:
        at = instants(page)
        if slice_.pages >= _LONG and slice_.lacks_past(at):
            first = first_look(self._page, slice_.window.before)
            with self._changed:
                self._schedule.cut_off_past(slice_, first)
                self._changed.notify_all()
        with self._changed:
            return self._schedule.cut(slice_, at)

    def _read_again(self, piece: Piece) -> None:
        """Read a piece in one request, which cannot skip a row."""

        def ask(parameters: Parameters) -> Page | None:
            with self._changed:
                if self._stopped.is_set() or not piece.portion.may_read_again():
                    return None
            page = self._page(parameters)
            piece.portion.queue.put(page.body)
            return page

        page = ask([*self._parameters, *piece.window.parameters()])
        if page and page.next_cursor is None:
            return
        with self._changed:
            if page and piece.cut(instants(page)):
                return
        if not (page and follow_closely(ask, self._parameters, piece.window)):
            with self._changed:
                piece.portion.unsettled.append(piece.window)
