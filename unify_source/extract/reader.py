"""Reads every page of a closed window, several at a time, in no promised order."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.responses import Page
from unify_source.errors import BrokenPage
from unify_source.extract.schedule import Chain, Schedule
from unify_source.extract.window import Window
from unify_source.resources import CURSOR, Resource
from unify_source.times import EPOCH, TICK, parse_instant

# Up to 22 years, in steps of the square root of two.
_LOOKS_BACK = 27


def first_instant(client: Client, resource: Resource, before: datetime) -> datetime | None:
    """Return an instant before which, at the time of asking, there was no row; None if none found.

    It is just before the first row where the list begins with the oldest, else up to half as long
    ago again, or a day. A hint of where to cut, never a bound of what is read. Takes seven requests
    of one row at most, one after another.
    """

    def listed(window: Window) -> Page:
        return client.page(resource, [("limit", "1"), *window.parameters()])

    def is_empty(until: datetime) -> bool:
        page = listed(Window(None, until))
        return page.next_cursor is None and not page.rows

    for instant in instants(listed(Window(None, before)).rows)[:1]:
        if is_empty(instant - TICK):
            return instant - TICK
    if before <= EPOCH:
        return None
    looks = [timedelta(days=2 ** (step / 2)) for step in range(_LOOKS_BACK)]
    steps = [before - min(look, before - EPOCH) for look in looks]
    found = bisect_left(steps, x=True, key=is_empty)
    return steps[found] if found < _LOOKS_BACK else None


class Reading:
    """The pages of adjoining windows, read by threads that share the work in slices of time.

    Iterating yields batches of the bodies of all pages, some perhaps twice, in the order of
    arrival, and reads ahead; a page that cannot be had raises its ApiError at once. All has been
    read only when the iteration ends by itself: then `covered` is the window of which every row has
    come. That is the whole, unless `enough` rows had come before; then it ends early, at the
    boundary of a slice, from the oldest on or, with `newest_first`, from the newest. Iterated
    again, it yields what comes next, most of which may have been read by then: whoever does not
    iterate to the end calls `close`. `heartbeat` is called at least twice a second, and may end the
    iteration by raising.
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
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._schedule = Schedule(
            windows,
            workers=workers,
            enough=enough // page_size + 1 if enough else None,
            newest_first=newest_first,
        )
        self.covered = self._schedule.portions[0].window
        self._parameters = [*filters, ("limit", str(page_size))]
        self._heartbeat = heartbeat
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._page = client.pages(resource, self._stopped)
        self._threads = [
            threading.Thread(target=self._work, name=f"page-{number}", daemon=True)
            for number in range(workers)
        ]

    def __iter__(self) -> Iterator[list[bytes]]:
        portions = self._schedule.portions
        try:
            for thread in self._threads:
                thread.start()
            self._threads = []
            yield from portions[0].arrivals.batches(self._heartbeat)
        except BaseException:
            self.close()
            raise
        with self._changed:
            self.covered = portions.popleft().window

    def close(self, error: Exception | None = None) -> None:
        """Let the threads end: what is left is not read. Whoever iterates gets the error."""
        self._stopped.set()
        with self._changed:
            for portion in self._schedule.portions:
                portion.arrivals.close(error)
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while chain := self._next_slice():
                self._read(chain)
                with self._changed:
                    if not self._stopped.is_set():
                        self._schedule.done(chain)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again where the pages are read
            self.close(error)

    def _next_slice(self) -> Chain | None:
        schedule = self._schedule
        with self._changed:
            while not (self._stopped.is_set() or schedule.is_ready or schedule.is_over):
                self._changed.wait()
            if self._stopped.is_set() or schedule.is_over:
                return None
            return schedule.take()

    def _read(self, chain: Chain) -> None:
        cursor: str | None = None
        followed: set[str] = set()
        while not self._stopped.is_set():
            page = self._page(asking(self._parameters, chain.window, cursor))
            chain.portion.arrivals.put(page.body)
            with self._changed:
                is_due = self._schedule.count_page(chain)
                if chain.portion.is_full and self._schedule.idle:
                    self._changed.notify_all()
            cursor = page.next_cursor
            if cursor is None:
                return
            if cursor in followed:
                raise _repeats(chain.window)
            followed.add(cursor)
            if is_due:
                with self._changed:
                    if self._schedule.cut(chain, instants(page.rows)):
                        return


def asking(parameters: Parameters, window: Window, cursor: str | None) -> Parameters:
    """Return what to ask for a page of a window: the first, or the one at a cursor."""
    asked = [*parameters, *window.parameters()]
    return [*asked, ("cursor", cursor)] if cursor else asked


def instants(rows: Sequence[Any]) -> list[datetime]:
    """Return the `updated_at` of a page's rows in their order, those that tell one since 1970."""
    texts = (row.get(CURSOR) for row in rows if isinstance(row, dict))
    found = (parse_instant(text) for text in texts if isinstance(text, str))
    # An unset time is written 0001-01-01T00:00:00Z, and nothing comes before it.
    return [instant for instant in found if instant and instant > EPOCH]


def _repeats(window: Window) -> BrokenPage:
    return BrokenPage(
        "The API sent the same next_cursor twice, so the list would never end"
        f" (updated_before {window.before.isoformat()}).",
        "Nothing is lost: run it again. If it stays so, please report it to Unify.",
    )
