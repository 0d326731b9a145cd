"""Which slice of time is read next, and where so much has been read that it can be loaded.

A range is read in parts of about so many pages: the nearest part is being read whole while slices
of the one after it are begun. Knows neither threads nor HTTP: whoever shares it holds a lock.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from unify_source.extract.page_queue import Arrivals
from unify_source.extract.window import (
    BURST_PAGES,
    FEWEST_PAGES,
    FEWEST_PAGES_OF_THE_BUSY,
    MOST_PAGES,
    Sample,
    Window,
    slices,
)
from unify_source.times import EPOCH

_FEWEST_PARTS = 4
# So much of what is enough may a slice hold that is begun when enough has come.
_SHARE = 12
# So much of the next portion may be read while one is loaded: a run that is killed loses it.
_AHEAD = 0.75
_SHORT_CHAIN, _SHORT_WINDOW = 16, timedelta(hours=6)


@dataclass(eq=False)
class Portion:
    """What is loaded together: a window, or the rest of all as long as not enough has come."""

    window: Window
    arrivals: Arrivals
    pages_left: int | None
    in_hand: int = 0
    reached: set[datetime] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether enough pages have come, so that it ends with the slices that were begun."""
        return self.pages_left is not None and self.pages_left <= 0

    def holds(self, slice_: Window) -> bool:
        """Tell whether a slice lies in its window."""
        is_after = _begin(slice_) >= _begin(self.window)
        return is_after and slice_.before <= self.window.before


@dataclass(eq=False)
class Chain:
    """A slice that is being read, page by page, and what some of its pages told."""

    portion: Portion
    window: Window
    pages: int = 0
    look_at: int = 1
    sample: Sample = field(default_factory=dict)


class Schedule:
    """Hands out the slices of adjoining windows, the oldest first or, with `newest_first`, last.

    `take` gives the nearest slice that waits, `done` takes it back. A portion ends, at the boundary
    of a slice, when `enough` pages of it have come; without, the whole is one.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        workers: int,
        enough: int | None = None,
        newest_first: bool = False,
    ) -> None:
        self.portions: deque[Portion] = deque()
        self.idle = workers
        self._workers = workers
        self._enough = enough
        self._worth: float = MOST_PAGES
        if enough:
            self._worth = min(self._worth, max(FEWEST_PAGES, enough / _SHARE))
        self._newest_first = newest_first
        self._nearest = -1 if newest_first else 0
        self._waiting = sorted(windows, key=_begin)
        self._put_off: set[Window] = set()
        self._burst_pages = BURST_PAGES
        self._whole = Window(windows[0].after, windows[-1].before)
        self._open(self._whole)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has a slice to give.

        What was put off, and what lies beyond it, waits while what is in hand may be enough.
        """
        if not self._waiting:
            return False
        last = self.portions[-1]
        may_suffice = last.in_hand * FEWEST_PAGES_OF_THE_BUSY > (last.pages_left or 0)
        return not (may_suffice and self._waiting[self._nearest] in self._put_off)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits, nor will."""
        return not self._waiting and self.idle == self._workers

    def take(self) -> Chain:
        """Return the nearest slice that waits."""
        slice_ = self._waiting.pop(self._nearest)
        self._put_off.discard(slice_)
        portion = next(each for each in self.portions if each.holds(slice_))
        portion.reached.add(self._far_end(slice_))
        portion.in_hand += 1
        self.idle -= 1
        return Chain(portion, slice_)

    def done(self, chain: Chain) -> None:
        """Take back a slice that was read to its end, or cut."""
        chain.portion.in_hand -= 1
        self.idle += 1
        for each in self.portions:
            if each.in_hand or any(each.holds(slice_) for slice_ in self._waiting):
                return
            each.arrivals.end()

    def count_page(self, chain: Chain) -> bool:
        """Count a page that has come, and tell whether it is one to look at: see `cut`."""
        chain.pages += 1
        portion = chain.portion
        if portion.pages_left is not None:
            portion.pages_left -= 1
            if portion.pages_left == 0:
                self._end_with_what_was_begun(portion)
        return self.idle > 0 or chain.pages == chain.look_at

    def cut(self, chain: Chain, page: list[datetime]) -> bool:
        """Cut the rest of a slice by the instants of its last page; False if it is read on."""
        portion, slice_, pages = chain.portion, chain.window, chain.pages
        sample = {**chain.sample, pages: page}
        if pages == chain.look_at:
            chain.sample = sample
            chain.look_at *= 2
        # The changes of a few hours come in bursts: a short chain is fewer requests than cuts.
        if pages < _SHORT_CHAIN and slice_.before - _begin(slice_) < _SHORT_WINDOW:
            return False
        # A server that does not heed the bounds would be asked for ever smaller slices.
        if not all(slice_.holds(instant) for page in sample.values() for instant in page):
            return False
        is_short_of_work = self.idle > 0 and not self.is_ready
        # Begun when enough had come: of the rest it takes no more than it must.
        is_last = self._far_end(slice_) == self._far_end(portion.window)
        is_surplus = portion.is_full and is_last and pages == 1
        made, rest = slices(
            slice_,
            sample,
            max(4 * self._workers, _FEWEST_PARTS),
            idle=is_short_of_work,
            worth=FEWEST_PAGES if is_short_of_work else self._worth,
            burst_pages=self._burst_pages,
            enough=1 if is_surplus else None if portion.is_full else portion.pages_left,
            newest_first=self._newest_first,
        )
        if not made:
            return False
        if len({instant for page in sample.values() for instant in page}) == 1:
            # Where one burst follows another, a cut around each reads them all twice.
            self._burst_pages *= 2
        for each in made:
            insort(self._waiting, each, key=_begin)
        # The slices now say how far has been read, no longer the one that was cut.
        portion.reached.discard(self._far_end(slice_))
        if is_surplus:
            portion.reached.add(self._far_end(made[self._nearest]))
            self._end_with_what_was_begun(portion)
        elif rest:
            self._put_off.add(rest)
        return True

    def _end_with_what_was_begun(self, portion: Portion) -> None:
        # It was put off for the sake of what comes next, which is another portion's now.
        self._put_off.clear()
        edge = (min if self._newest_first else max)(portion.reached)
        if edge == self._far_end(portion.window):
            return
        if self._newest_first:
            beyond = Window(self._whole.after, edge)
            portion.window = Window(edge, portion.window.before)
        else:
            beyond = Window(edge, self._whole.before)
            portion.window = Window(portion.window.after, edge)
        if portion is self.portions[-1]:
            self._open(beyond)
        else:
            self.portions[-1].window = beyond

    def _open(self, window: Window) -> None:
        # Each worker has one more page in hand when it finds no room for it.
        ahead = max(0, int(_AHEAD * self._enough) - self._workers) if self._enough else None
        self.portions.append(Portion(window, Arrivals(ahead), self._enough))

    def _far_end(self, slice_: Window) -> datetime:
        return _begin(slice_) if self._newest_first else slice_.before


def _begin(window: Window) -> datetime:
    return window.after or EPOCH
