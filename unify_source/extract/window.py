"""Cursor to closed window, window to slices. Pure: instants in, instants out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median_low

from unify_source.times import EPOCH, TICK, rfc3339

# A slice of fewer pages costs more in half-empty last pages than it gains, while workers are idle;
# while none is, so does one of fewer than that.
FEWEST_PAGES, FEWEST_PAGES_OF_THE_BUSY = 12, 24
# One of more pages may keep a single worker busy when all others have nothing left to do.
MOST_PAGES = 64
# Fewer pages of one instant are read on: the next ones may tell more.
BURST_PAGES = 2
# Parts of more pages are more likely a dense spot that was taken for the whole.
_PLAUSIBLE_PAGES = 16
_SAMPLED_PAGES = 3
_TELLING_INSTANTS = 5
_WASTE = 0.4
_SMALLEST_SHARE = 1 / 16

Sample = dict[int, list[datetime]]
"""The `updated_at` of the rows of some pages of a list, in its order, by the page's number."""


@dataclass(frozen=True)
class Window:
    """A range of `updated_at`, both ends included; `after` None reaches back to the first row."""

    after: datetime | None
    before: datetime

    @property
    def is_empty(self) -> bool:
        """Whether no instant lies in it."""
        return self.after is not None and self.after > self.before

    def holds(self, instant: datetime) -> bool:
        """Tell whether an instant lies in it."""
        return instant <= self.before and (self.after is None or instant >= self.after)

    def parameters(self) -> list[tuple[str, str]]:
        """Return it as the API's parameters."""
        lower = [("updated_after", rfc3339(self.after))] if self.after else []
        return [*lower, ("updated_before", rfc3339(self.before))]


def cut(window: Window, at: Sequence[datetime]) -> list[Window]:
    """Cut a window at the given instants; neighbours share theirs, so that nothing falls between.

    An instant may be finer than a microsecond on the server, hence no gap of one is left.
    """
    inside = sorted(
        {i for i in at if i < window.before and (window.after is None or i > window.after)}
    )
    ends = [*inside, window.before]
    return [
        Window(lower, upper) for lower, upper in zip([window.after, *inside], ends, strict=True)
    ]


def slices(
    window: Window,
    sample: Sample,
    parts: int,
    *,
    idle: bool,
    worth: float = FEWEST_PAGES,
    burst_pages: int = BURST_PAGES,
    enough: int | None = None,
    newest_first: bool = False,
) -> tuple[list[Window], Window | None]:
    """Say how to read the rest of a window in up to so many parts, in none to read it page by page.

    `sample` has some of its first pages, among them the last one that was read. They only guide
    where to cut, and whether it is `worth` so many pages: the slices cover the whole window again,
    whatever the server's order. In no order, or where all rows of `burst_pages` share one instant,
    they do not tell how much is left: then it is cut while workers are `idle`. Where much more is
    left than `enough` pages, and the list begins where the reading does, only those are cut into
    parts; the rest is one of the slices, and named as well: it is not wanted before the others.
    """
    seen = [instant for page in sample.values() for instant in page]
    pages = max(sample)
    last_page = sample[pages]
    if window.after == window.before or not last_page:
        return [], None
    if len(set(seen)) == 1:
        return (_around(window, seen[0]) if idle and pages >= burst_pages else []), None
    if not is_in_order(seen):
        is_due = len(sample) >= _SAMPLED_PAGES and idle
        return (_by_sample(window, seen, parts // 2) if is_due else []), None
    edge = seen[-1]
    ascending = seen[0] < edge
    end = window.before if ascending else window.after or EPOCH
    left = abs(end - edge) / a_page(sample)
    share, wanted = 1.0, left
    if enough and ascending != newest_first and left > max(worth, 2 * enough):
        share, wanted = enough / left, enough
    if share < _SMALLEST_SHARE:
        # A burst makes what is left look like more than it is: look again, from its first page.
        share, wanted = _SMALLEST_SHARE, 0
    is_plausible = left <= parts * _PLAUSIBLE_PAGES
    fewest = FEWEST_PAGES if idle else FEWEST_PAGES_OF_THE_BUSY
    parts = min(parts, max(1, int(wanted / fewest)))
    if left < worth or pages > _WASTE * left or (share == 1 and parts == 1):
        return [], None
    if last_page.count(edge) > 1:
        # Its last rows may be the first of a burst, which as a boundary would be read twice.
        edge -= TICK if ascending else -TICK
    ends = _even(parts, share) if is_plausible or parts == 1 else _doubling(fewest / left, share)
    at = [edge + (end - edge) * part for part in ends]
    # A single part is read together with what has been read of it: no order is promised.
    made = cut(window, at if len(at) > 2 else at[1:])  # noqa: PLR2004 - both ends of one part
    return made, None if share == 1 else made[-1 if ascending else 0]


def _even(parts: int, share: float) -> list[float]:
    return [share * number / parts for number in range(parts + 1)]


def _doubling(first: float, share: float) -> list[float]:
    # Of even parts of a window that begins with its dense spot, most would be empty.
    ends = [0.0]
    while first < share:
        ends.append(first)
        first *= 2
    return [*ends, share]


def is_in_order(seen: Sequence[datetime]) -> bool:
    """Tell whether instants ascend or descend; whoever shares one may stand beside it."""
    return list(seen) in (sorted(seen), sorted(seen, reverse=True))


def a_page(sample: Sample) -> timedelta:
    """Return how much time a page of what follows takes, as pages of a list in order tell it.

    See `slices`; not all of their rows share one instant.
    """
    for page in reversed(sample.values()):
        rows_of = Counter(page)
        if len(rows_of) >= _TELLING_INSTANTS:
            # One group among single rows makes a page look denser than those after it will be.
            of_groups = len(page) / (len(rows_of) * median_low(rows_of.values()))
            return max(TICK, abs(page[-1] - page[0]) * max(1, of_groups))
    return max(TICK, _a_page_of_groups(sample))


def _a_page_of_groups(sample: Sample) -> timedelta:
    """Return what a page took lately where each holds hardly more than one instant."""
    pages = max(sample)
    for number, page in reversed(sample.items()):
        if number <= max(1, pages // 2) and page and page[0] != sample[pages][-1]:
            return abs(sample[pages][-1] - page[0]) / (pages - number + 1)
    return timedelta()


def _around(window: Window, burst: datetime) -> list[Window]:
    # It tells nothing of what lies before and after it, but a worker of its own can read it.
    cuts = cut(window, [burst - TICK, burst + TICK])
    return cuts if len(cuts) > 1 else []


def _by_sample(window: Window, seen: Sequence[datetime], parts: int) -> list[Window]:
    ordered = sorted(seen)
    begin = window.after or EPOCH
    length = window.before - begin
    # A list in the order of another time begins with rows of one end: the rest is cut evenly.
    evenly = parts // 2 if ordered[-1] - ordered[0] < length / 2 else 0
    by_rows = parts - evenly
    at = [ordered[len(ordered) * i // by_rows] for i in range(1, by_rows)]
    # Half a million rows may share one instant: as a boundary they would be read twice.
    crowded = {i for i in at if ordered.count(i) > 1}
    around = [i + TICK for i in crowded] + [i - TICK for i in crowded]
    even = [begin + length * i / evenly for i in range(1, evenly)]
    cuts = cut(window, [*(i for i in at if i not in crowded), *around, *even])
    return cuts if len(cuts) > 1 else []
