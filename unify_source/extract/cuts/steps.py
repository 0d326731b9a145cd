"""Reads in steps, if a list's order does not show its density or rows change too fast. Pure.

A list in another order than time shows where rows are, but not how many. So its window is read in
steps, each as long as a few pages seem to span by the steps before. A step is always read to its
end: a wrong guess costs requests and never rows.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from unify_source.common.times import TICK
from unify_source.extract.cuts.slicing import Sample, a_page, fitting
from unify_source.extract.window import Window, begin, cut

# A step's last page is half empty. A shorter list does not repay rereading its first pages.
STEP_PAGES = 12
# The share of a page that a one-page step aims at: such a step skips no row, and a fuller one too
# often needs a second page.
_ONE_PAGE = 0.85
# The first step spans the sampled rows divided by this; an instant with more is its own window.
_FIRST_SHARE = 16
# The length of the first step, in guessed pages, while rows change.
_GUESSED = 3
# The next step may be at most this many times longer.
_GROWTH = 4
_CRUMB = 1.3


@dataclass(eq=False)
class Steps:
    """The time that a page of a window spans from `start` on, learned from its steps so far.

    Steps are `needed` where nothing else cuts the window; otherwise only changing rows cut it.
    `page` is a guess until a step has been read.
    """

    start: datetime
    page: timedelta
    size: int
    needed: bool
    is_guess: bool = False

    @classmethod
    def in_order(cls, sample: Sample) -> Steps:
        """Begin with the density that an ordered list shows."""
        first = min(instant for page in sample.values() for instant in page)
        return cls(first, a_page(sample), max(map(len, sample.values())), needed=False)

    def first(
        self, window: Window, *, moving: bool, newest_first: bool
    ) -> tuple[Window, Window | None]:
        """Return the next step of a window, and the rest of the window."""
        step = self.page * ((_GUESSED if self.is_guess else _ONE_PAGE) if moving else STEP_PAGES)
        since = self._since(window)
        if not (moving or self.needed) or window.before - since <= step * _CRUMB:
            return window, None
        at = window.before - step if newest_first else since + step
        older, newer = Window(window.after, at), Window(at, window.before)
        return (newer, older) if newest_first else (older, newer)

    def learn(self, window: Window, rows: int, fullest: int, *, moving: bool) -> None:
        """Learn the density of a step's rows, and how many rows its fullest page had."""
        # The first pages may be short because their rows are long; later ones need not be.
        self.size = max(self.size, fullest)
        length = window.before - self._since(window)
        expected = self.size * (_ONE_PAGE if moving else STEP_PAGES)
        self.is_guess = False
        if length > timedelta():
            self.page = max(TICK, length * self.size / max(rows, expected / _GROWTH))

    def _since(self, window: Window) -> datetime:
        return max(window.after or self.start, self.start)


def in_steps(window: Window, sample: Sample) -> list[tuple[Window, Steps | None]]:
    """Return how to read a window, given a sample of a list that is not in order of time.

    An instant that many rows share, a bulk change, becomes a window of its own. Returns nothing if
    no window is long enough.
    """
    seen = sorted(instant for page in sample.values() for instant in page)
    most = max(1, len(seen) // _FIRST_SHARE)
    crowded = [instant for instant, rows in Counter(seen).items() if rows > most]
    windows = cut(window, [edge for at in crowded for edge in (at - TICK, at + TICK)])
    size = max(map(len, sample.values()))
    ways = [(each, _steps(each, list(filter(each.holds, seen)), most, size)) for each in windows]
    return ways if len(ways) > 1 or ways[0][1] else []


def _steps(window: Window, seen: list[datetime], most: int, size: int) -> Steps | None:
    if not seen:
        return None
    start = max(window.after or seen[0], seen[0])
    # No step may span the whole window, or cutting would never end.
    longest = (window.before - start) / _GROWTH
    if longest < STEP_PAGES * TICK:
        return None
    share = fitting(window, seen, most)[0].before - start
    page = max(TICK, min(share, longest) / STEP_PAGES)
    return Steps(start, page, size, needed=True, is_guess=True)


class Waiting:
    """Windows that wait to be read, the oldest first or, with `newest_first`, last.

    Those that are `put_off` wait until others have been read.
    """

    def __init__(self, windows: Sequence[Window], *, newest_first: bool) -> None:
        self.windows = sorted(windows, key=begin)
        self.put_off: set[Window] = set()
        self._newest_first = newest_first
        self._steps: dict[Window, Steps] = {}

    def __bool__(self) -> bool:
        """Tell whether any waits."""
        return bool(self.windows)

    @property
    def is_put_off(self) -> bool:
        """Whether the nearest one is put off."""
        return self.windows[-1 if self._newest_first else 0] in self.put_off

    def put(self, window: Window, steps: Steps | None = None) -> None:
        """Add a window, to be read in steps if it has any."""
        insort(self.windows, window, key=begin)
        if steps:
            self._steps[window] = steps

    def take(self, is_moving: Callable[[Window], bool]) -> tuple[Window, Steps | None]:
        """Return the nearest window, or its next step; the rest keeps waiting."""
        window = self.windows.pop(-1 if self._newest_first else 0)
        self.put_off.discard(window)
        steps = self._steps.pop(window, None)
        if not steps:
            return window, None
        moving = is_moving(window)
        step, rest = steps.first(window, moving=moving, newest_first=self._newest_first)
        if rest:
            self.put(rest, steps)
        return step, steps
