"""Reads every page of a closed window, several at a time, in no promised order."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from unify_source.arrivals import Arrivals
from unify_source.client import Client, Page, Parameters
from unify_source.errors import BrokenPage
from unify_source.oddities import parse_instant
from unify_source.tables import CURSOR
from unify_source.window import (
    BURST_PAGES,
    EPOCH,
    FEWEST_PAGES,
    MOST_PAGES,
    TICK,
    Sample,
    Window,
    slices,
)

_FEWEST_PARTS = 4
# Up to 22 years, in steps of the square root of two.
_LOOKS_BACK = 27
# So much of what is enough may a slice hold that is begun when enough has come.
_SHARE = 12
_SHORT_CHAIN, _SHORT_WINDOW = 16, timedelta(hours=6)


def first_instant(client: Client, before: datetime) -> datetime | None:
    """Return an instant before which, at the time of asking, there was no row; None if none found.

    It is just before the first row where the list begins with the oldest, else up to half as long
    ago again, or a day. A hint of where to cut, never a bound of what is read. Takes seven requests
    of one row at most, one after another.
    """

    def listed(window: Window) -> Page:
        return client.page([("limit", "1"), *window.parameters()])

    def is_empty(until: datetime) -> bool:
        body, following = listed(Window(None, until))
        return following is None and not _rows(body)

    for instant in instants(listed(Window(None, before))[0])[:1]:
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
    arrival, and reads a few batches ahead; a page that cannot be had raises its ApiError at once.
    All has been read only when the iteration ends by itself: then `covered` is the window of which
    every row has come. That is the whole, unless `enough` rows had come before; then it ends early,
    at the boundary of a slice, from the oldest on or, with `newest_first`, from the newest.
    `heartbeat` is called at least twice a second, and may end the iteration by raising.
    """

    def __init__(
        self,
        client: Client,
        windows: Sequence[Window],
        filters: Parameters,
        *,
        page_size: int,
        workers: int,
        enough: int | None = None,
        newest_first: bool = False,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.covered = Window(windows[0].after, windows[-1].before)
        self._parameters = [*filters, ("limit", str(page_size))]
        self._workers = workers
        self._pages_left = enough // page_size + 1 if enough else None
        self._worth: float = MOST_PAGES
        if self._pages_left:
            self._worth = min(self._worth, max(FEWEST_PAGES, self._pages_left / _SHARE))
        self._newest_first = newest_first
        self._nearest = -1 if newest_first else 0
        self._heartbeat = heartbeat
        self._waiting = sorted(windows, key=_begin)
        self._put_off: set[Window] = set()
        self._reached = [self.covered.before if newest_first else self.covered.after]
        self._idle = workers
        self._burst_pages = BURST_PAGES
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._page = client.pages(self._stopped)
        self._arrivals = Arrivals(workers)

    def __iter__(self) -> Iterator[list[bytes]]:
        for number in range(self._workers):
            threading.Thread(target=self._work, name=f"page-{number}", daemon=True).start()
        try:
            yield from self._arrivals.batches(self._heartbeat)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._arrivals.close()
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (window := self._next_slice()) is not None:
                self._read(window)
                with self._changed:
                    self._idle += 1
            self._arrivals.end()
        except Exception as error:  # noqa: BLE001 - raised again where the pages are read
            self._arrivals.end(error)

    def _next_slice(self) -> Window | None:
        with self._changed:
            while not (self._stopped.is_set() or self._has_work() or self._idle == self._workers):
                self._changed.wait()
            if self._waiting and not self._stopped.is_set():
                self._idle -= 1
                window = self._waiting.pop(self._nearest)
                self._put_off.discard(window)
                self._reached.append(self._far_end(window))
                return window
            self._changed.notify_all()
            return None

    def _has_work(self) -> bool:
        # What was put off, and what lies beyond it, waits until all that is nearer has been read.
        return bool(self._waiting) and self._waiting[self._nearest] not in self._put_off

    def _read(self, window: Window) -> None:
        cursor: str | None = None
        followed: set[str] = set()
        sample: Sample = {}
        pages, look_at = 0, 1
        while not self._stopped.is_set():
            body, following = self._page(asking(self._parameters, window, cursor))
            self._arrivals.put(body)
            self._count_page()
            pages += 1
            if following is None:
                return
            if following in followed:
                raise _repeats(window)
            followed.add(following)
            cursor = following
            if self._idle or pages == look_at:
                page = instants(body)
                if self._cut(window, {**sample, pages: page}):
                    return
                if pages == look_at:
                    sample[pages] = page
                    look_at *= 2

    def _cut(self, window: Window, sample: Sample) -> bool:
        with self._changed:
            pages = max(sample)
            # The changes of a few hours come in bursts: a short chain is fewer requests than cuts.
            if pages < _SHORT_CHAIN and window.before - _begin(window) < _SHORT_WINDOW:
                return False
            # A server that does not heed the bounds would be asked for ever smaller slices.
            if not all(window.holds(instant) for page in sample.values() for instant in page):
                return False
            is_short_of_work = self._idle > 0 and not self._has_work()
            parts, rest = slices(
                window,
                sample,
                max(4 * self._workers, _FEWEST_PARTS),
                idle=is_short_of_work,
                worth=FEWEST_PAGES if is_short_of_work else self._worth,
                burst_pages=self._burst_pages,
                enough=self._wanted(window),
                newest_first=self._newest_first,
            )
            if not parts:
                return False
            if len({instant for page in sample.values() for instant in page}) == 1:
                # Where one burst follows another, a cut around each reads them all twice.
                self._burst_pages *= 2
            # The parts now say how far has been read, no longer the slice as a whole.
            self._reached.remove(self._far_end(window))
            for part in parts:
                insort(self._waiting, part, key=_begin)
            self._put_off |= {rest} if rest else set()
            if pages == 1 and self._pages_left is not None and self._pages_left <= 0:
                # Begun when enough had come: of the rest it takes no more than it must.
                self._reached.append(self._far_end(parts[self._nearest]))
                self._leave_the_rest()
            self._changed.notify_all()
            return True

    def _wanted(self, window: Window) -> int | None:
        if self._pages_left is None:
            return None
        if self._pages_left <= 0 and self._far_end(window) != self._edge():
            # More than enough has come, of what lies beyond it.
            return None
        return max(1, self._pages_left)

    def _edge(self) -> datetime:
        begun = [instant or EPOCH for instant in self._reached]
        return min(begun) if self._newest_first else max(begun)

    def _far_end(self, window: Window) -> datetime | None:
        return window.after if self._newest_first else window.before

    def _count_page(self) -> None:
        if self._pages_left is None:
            return
        with self._changed:
            self._pages_left -= 1
            if self._pages_left == 0:
                self._leave_the_rest()

    def _leave_the_rest(self) -> None:
        """Drop the slices beyond those begun; what a slice that was begun is cut into stays."""
        edge = self._edge()
        if self._newest_first:
            kept = [w for w in self._waiting if w.before > edge]
        else:
            kept = [w for w in self._waiting if _begin(w) < edge]
        if len(kept) < len(self._waiting):
            after, before = self.covered.after, self.covered.before
            self.covered = Window(edge, before) if self._newest_first else Window(after, edge)
            self._waiting = kept


def asking(parameters: Parameters, window: Window, cursor: str | None) -> Parameters:
    """Return what to ask for a page of a window: the first, or the one at a cursor."""
    asked = [*parameters, *window.parameters()]
    return [*asked, ("cursor", cursor)] if cursor else asked


def _begin(window: Window) -> datetime:
    return window.after or EPOCH


def instants(body: bytes) -> list[datetime]:
    """Return the `updated_at` of a page's rows in their order, those that tell one since 1970."""
    texts = (row.get(CURSOR) for row in _rows(body) if isinstance(row, dict))
    found = (parse_instant(text) for text in texts if isinstance(text, str))
    # An unset time is written 0001-01-01T00:00:00Z, and nothing comes before it.
    return [instant for instant in found if instant and instant > EPOCH]


def _rows(body: bytes) -> list[Any]:
    try:
        rows = orjson.loads(body)["enrollments"]
    except (ValueError, TypeError, KeyError):
        # Whoever decodes the page says what is wrong with it.
        return []
    return rows if isinstance(rows, list) else []


def _repeats(window: Window) -> BrokenPage:
    return BrokenPage(
        "The API sent the same next_cursor twice, so the list would never end"
        f" (updated_before {window.before.isoformat()}).",
        "Nothing is lost: run it again. If it stays so, please report it to Unify.",
    )
