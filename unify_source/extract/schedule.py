"""Decides which slice is read next, and when there is enough to load.

A `Window` is a closed range of time. A `Slice` is a window that one worker reads page by page. A
`Portion` is what is loaded together, about `enough` pages. While the nearest portion is finished,
slices of the next are begun, so that no worker waits for a load. A portion ends once its slices
have been checked, and read again where rows may have been skipped. Knows neither threads nor HTTP:
callers hold a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from unify_source.extract.cuts import slicing
from unify_source.extract.cuts.slice import Recent, Slice
from unify_source.extract.cuts.slicing import Slices, is_in_order
from unify_source.extract.cuts.steps import STEP_PAGES, Steps, Waiting, in_steps
from unify_source.extract.page_queue import PageQueue
from unify_source.extract.portion import Check, Portion, Work
from unify_source.extract.window import Window, begin

_FEWEST_SLICES = 4
# The largest slice, as a share of `enough`: one slice too many may be begun.
_SHARE = 12
# How much of the next portion may be read while one is loaded: a kill loses it.
_AHEAD = 0.75
# Changes within a few hours come in bursts: reading on costs fewer requests than cutting.
_SHORT_READ, _SHORT_WINDOW = 16, timedelta(hours=6)


class Schedule:
    """Hands out the slices of adjoining windows, the oldest first or, with `newest_first`, last.

    `take` gives the nearest window that waits, `done` takes its slice back. A portion ends, at the
    boundary of a slice, once `enough` of its pages have arrived; without `enough`, everything is
    one portion. The next run rereads rows from `again_from` on, so their slices need no check.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        workers: int,
        enough: int | None = None,
        newest_first: bool = False,
        again_from: datetime | None = None,
    ) -> None:
        self.portions: deque[Portion] = deque()
        self.idle = workers
        self._workers = workers
        self._enough = enough
        self._worth: float = slicing.MOST_PAGES
        self._fewest = min(slicing.FEWEST_PAGES, (enough or 99) // _FEWEST_SLICES + 1)
        if enough:
            self._worth = min(self._worth, max(self._fewest, enough / _SHARE))
        self._again_from = again_from
        self._newest_first = newest_first
        self._waiting = Waiting(windows, newest_first=newest_first)
        self._moving = self._looking = False
        self._burst_pages = slicing.BURST_PAGES
        self._whole = Window(windows[0].after, windows[-1].before)
        self._open(self._whole)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to give.

        What was put off, and what lies beyond it, waits while the slices being read may suffice.
        """
        if self._settling():
            return True
        if self._looking or not self._waiting:
            return False
        last = self.portions[-1]
        may_suffice = last.in_hand * slicing.FEWEST_PAGES_OF_THE_BUSY > (last.pages_left or 0)
        return not (may_suffice and self._waiting.is_put_off)

    @property
    def is_over(self) -> bool:
        """Whether no work is left, and none can follow."""
        return not (self._waiting or self._settling()) and self.idle == self._workers

    def take(self) -> Work:
        """Return the next work: what a portion needs to be settled, else the nearest window."""
        self.idle -= 1
        if portion := self._settling():
            work = portion.settle(is_read=self._is_read(portion))
            portion.in_hand += 1
            # How a list is cut depends on what the check after its first pages finds.
            self._looking = isinstance(work, Check) and any(each.is_cut for each in work.slices)
            return work
        window, steps = self._waiting.take(lambda each: self._moving and self._may_skip(each))
        portion = next(each for each in self.portions if each.holds(window))
        # Noted when it begins, not when it ends: a full portion ends with the slices that began.
        portion.reached.add(self._far_end(window))
        portion.in_hand += 1
        return Slice(portion, window, steps=steps)

    def _settling(self) -> Portion | None:
        return next(
            (each for each in self.portions if each.settling(is_read=self._is_read(each))), None
        )

    def _is_read(self, portion: Portion) -> bool:
        return not (portion.in_hand or any(map(portion.holds, self._waiting.windows)))

    def done(self, work: Work) -> None:
        """Take back work that was read or checked to its end, or was cut."""
        work.portion.in_hand -= 1
        self.idle += 1
        if isinstance(work, Slice) and not work.is_cut:
            if work.steps:
                work.steps.learn(work.window, work.rows, work.fullest, moving=self._moving)
            if work.pages > 1 and self._may_skip(work.window):
                work.portion.check_later(work)
        # Portions are loaded in this order, so none may end before those ahead of it.
        for portion in self.portions:
            if not (self._is_read(portion) and portion.is_settled):
                return
            portion.queue.end()

    def _may_skip(self, window: Window) -> bool:
        return not (self._again_from and begin(window) >= self._again_from)

    def checked(self, check: Check, recent: Recent | None, *, is_whole: bool = True) -> None:
        """Reread the slices that may have skipped rows, given the rows updated since.

        If these are not the whole, the other slices are checked again later.
        """
        suspects = check.portion.checked(check, recent, self._again_from, is_whole=is_whole)
        self._moving, self._looking = bool(suspects), False

    def count_page(self, slice_: Slice) -> bool:
        """Count a page that arrived, and tell whether `cut` should inspect it."""
        slice_.pages += 1
        portion = slice_.portion
        if portion.pages_left is not None:
            portion.pages_left -= 1
            if portion.pages_left == 0:
                self._end_with_what_was_begun(portion)
        # Inspecting a page means parsing it once more, which pays on a few pages, while a worker is
        # idle, and when a portion is nearly full: only a cut lets it end within the slice.
        return self.idle > 0 or slice_.pages == slice_.look_at or portion.is_nearly_full

    def cut_off_past(self, slice_: Slice, first: datetime | None) -> None:
        """Cut off the time before the first row, if it is known, from a slice in progress."""
        slice_.is_past_known = True
        if first and first < slice_.window.before:
            self._waiting.put(Window(None, first))
            slice_.portion.reached.discard(self._far_end(slice_.window))
            slice_.window = Window(first, slice_.window.before)
            slice_.portion.reached.add(self._far_end(slice_.window))

    def cut(self, slice_: Slice, page: list[datetime]) -> bool:
        """Cut the rest of a slice by the instants of its last page; False if reading continues."""
        sample, window, portion = slice_.look(page), slice_.window, slice_.portion
        is_short = window.before - begin(window) < _SHORT_WINDOW
        if is_short and slice_.pages < _SHORT_READ and not portion.is_nearly_full:
            return False
        seen = [instant for page in sample.values() for instant in page]
        # A server that ignores the bounds would be asked for ever smaller slices.
        if not all(map(window.holds, seen)):
            return False
        if not is_in_order(seen):
            return self._read_in_steps(slice_, sample)
        if slice_.lacks_past(page):
            return False
        # This slice began after the portion was full, so it takes as little as possible.
        is_surplus = portion.is_full and self._far_end(window) == self._far_end(portion.window)
        cuts, rest = self._slices(slice_, sample, is_surplus=is_surplus)
        if not cuts:
            return False
        is_burst = len(set(seen)) == 1
        if is_burst:
            # Where one burst follows another, a cut around each reads them all twice.
            self._burst_pages *= 2
        steps = None if is_burst else Steps.in_order(sample)
        self._replace(slice_, (cuts, rest), steps, is_surplus=is_surplus)
        return True

    def _read_in_steps(self, slice_: Slice, sample: slicing.Sample) -> bool:
        is_long = slice_.pages >= STEP_PAGES * (2 if slice_.steps else 1)
        is_due = self.idle or slice_.portion.is_nearly_full
        ways = in_steps(slice_.window, sample) if is_long and is_due else []
        if ways and slice_.steps:
            slice_.steps.page /= 2
        if ways and self._may_skip(slice_.window):
            slice_.portion.look_early(slice_)
        for window, steps in ways:
            self._replace(slice_, ([window], None), steps)
        return bool(ways)

    def _slices(self, slice_: Slice, sample: slicing.Sample, *, is_surplus: bool) -> Slices:
        is_short_of_work = self.idle > 0 and not self.is_ready
        portion = slice_.portion
        return slicing.slices(
            slice_.window,
            sample,
            max(4 * self._workers, _FEWEST_SLICES),
            idle=is_short_of_work,
            worth=self._fewest if is_short_of_work else self._worth,
            burst_pages=self._burst_pages,
            enough=1 if is_surplus else None if portion.is_full else portion.pages_left,
            newest_first=self._newest_first,
        )

    def _replace(
        self, slice_: Slice, slices: Slices, steps: Steps | None, *, is_surplus: bool = False
    ) -> None:
        slice_.is_cut = True
        portion, (cuts, rest) = slice_.portion, slices
        for window in cuts:
            self._waiting.put(window, None if window is rest else steps)
        # The slice no longer marks how far was read: its parts will.
        portion.reached.discard(self._far_end(slice_.window))
        if is_surplus:
            portion.reached.add(self._far_end(cuts[-1 if self._newest_first else 0]))
            self._end_with_what_was_begun(portion)
        elif rest:
            self._waiting.put_off.add(rest)

    def _end_with_what_was_begun(self, portion: Portion) -> None:
        # It was put off in favour of windows that now belong to another portion.
        self._waiting.put_off.clear()
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
        # Each worker already holds one more page when it finds the queue full.
        ahead = max(0, int(_AHEAD * self._enough) - self._workers) if self._enough else None
        self.portions.append(Portion(window, PageQueue(ahead), self._enough))

    def _far_end(self, window: Window) -> datetime:
        return begin(window) if self._newest_first else window.before
