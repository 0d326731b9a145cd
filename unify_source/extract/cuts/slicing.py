"""Cuts the rest of a window into slices, by what its first pages have shown. Pure.

A list in the order of `updated_at` shows its density, and the rest is cut into slices of about the
same number of pages. A list in another order shows only where rows are. The cuts are guesses, but
the slices always cover the window, so a wrong guess costs requests and never rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median_low

from unify_source.api.pages import Page
from unify_source.common.times import EPOCH, TICK, parse_instant
from unify_source.extract.window import Window, cut

# A slice of fewer pages costs more in half-empty last pages than it gains: the first number counts
# while workers are idle, the second while none is.
FEWEST_PAGES, FEWEST_PAGES_OF_THE_BUSY = 12, 24
# One of more pages may keep a single worker busy when all others have nothing left to do.
MOST_PAGES = 64
# After fewer pages of one instant, reading continues: the next ones may tell more.
BURST_PAGES = 2
# An estimate of more pages per slice likely took a dense spot for the whole window.
_PLAUSIBLE_PAGES = 16
_TELLING_INSTANTS = 5
# A slice is not worth cutting once this share was read: its pieces reread it from the start.
_WASTE = 0.4
_SMALLEST_SHARE = 1 / 16

Sample = dict[int, list[datetime]]
"""The `updated_at` of the rows of some pages of a list, in its order, by the page's number."""

Slices = tuple[list[Window], Window | None]
"""The slices of a window, none to keep reading page by page, and which one can be put off."""


def slices(
    window: Window,
    sample: Sample,
    most: int,
    *,
    idle: bool,
    worth: float = FEWEST_PAGES,
    burst_pages: int = BURST_PAGES,
    enough: int | None = None,
    newest_first: bool = False,
) -> Slices:
    """Cut the rest of a window into up to `most` slices, or into none to read it page by page.

    `sample` has some of its first pages, among them the last one that was read. A list in order is
    cut where that is `worth` as many pages. One in no order is not cut; see `Steps`. Where all rows
    of `burst_pages` share one instant, pages do not tell how much is left: then it is cut only
    while workers are `idle`. Where much more than `enough` pages are left, and the list begins
    where the reading does, only that many are cut apart; the rest is one slice, which is not wanted
    before the others.
    """
    seen = [instant for page in sample.values() for instant in page]
    pages = max(sample)
    # A single instant cannot be cut, and an empty page tells nothing.
    if window.after == window.before or not sample[pages]:
        return [], None
    if len(set(seen)) == 1:
        return (_around(window, seen[0]) if idle and pages >= burst_pages else []), None
    if not is_in_order(seen):
        return [], None
    ascending = seen[0] < seen[-1]
    if ascending == newest_first:
        # The list ends with the rows that are wanted first: they are not yet in sight.
        enough = None
    fewest = FEWEST_PAGES if idle or worth < FEWEST_PAGES else FEWEST_PAGES_OF_THE_BUSY
    fewest = min(fewest, int(worth))
    return _in_order(
        window, sample, most, ascending=ascending, fewest=fewest, worth=worth, enough=enough
    )


def _in_order(
    window: Window,
    sample: Sample,
    most: int,
    *,
    ascending: bool,
    fewest: int,
    worth: float,
    enough: int | None,
) -> Slices:
    last_page = sample[max(sample)]
    edge = last_page[-1]
    end = window.before if ascending else window.after or EPOCH
    left = abs(end - edge) / a_page(sample)
    share, wanted = 1.0, left
    if enough and left > max(worth, 2 * enough):
        share, wanted = enough / left, enough
    if share < _SMALLEST_SHARE:
        # A burst makes the rest look longer than it is: look again, from its first page.
        share, wanted = _SMALLEST_SHARE, 0
    is_plausible = left <= most * _PLAUSIBLE_PAGES
    count = min(most, max(1, int(wanted / fewest)))
    if left < worth or max(sample) > _WASTE * left or (share == 1 and count == 1):
        return [], None
    if last_page.count(edge) > 1:
        # Its last rows may begin a burst, which would be read twice if it were a boundary.
        edge -= TICK if ascending else -TICK
    ends = _even(count, share) if is_plausible or count == 1 else _doubling(fewest / left, share)
    at = [edge + (end - edge) * part for part in ends]
    # A single slice is read together with what has been read of it: no order is promised.
    cuts = cut(window, at if len(at) > 2 else at[1:])  # noqa: PLR2004 - both ends of one slice
    return cuts, None if share == 1 else cuts[-1 if ascending else 0]


def _even(count: int, share: float) -> list[float]:
    return [share * number / count for number in range(count + 1)]


def _doubling(first: float, share: float) -> list[float]:
    # Of even slices of a window that begins with its dense spot, most would be empty.
    ends = [0.0]
    while first < share:
        ends.append(first)
        first *= 2
    return [*ends, share]


def is_in_order(seen: Sequence[datetime]) -> bool:
    """Tell whether instants ascend or descend; neighbours may be equal."""
    return list(seen) in (sorted(seen), sorted(seen, reverse=True))


def a_page(sample: Sample) -> timedelta:
    """Return how much time the next page spans, judged by pages of a list in order.

    Not all of their rows may share one instant.
    """
    for page in reversed(sample.values()):
        rows_of = Counter(page)
        if len(rows_of) >= _TELLING_INSTANTS:
            # One group among single rows makes a page look denser than those after it will be.
            of_groups = len(page) / (len(rows_of) * median_low(rows_of.values()))
            return max(TICK, abs(page[-1] - page[0]) * max(1, of_groups))
    return max(TICK, _a_page_of_groups(sample))


def _a_page_of_groups(sample: Sample) -> timedelta:
    """Return the time that recent pages span where each holds hardly more than one instant."""
    pages = max(sample)
    for number, page in reversed(sample.items()):
        if number <= max(1, pages // 2) and page and page[0] != sample[pages][-1]:
            return abs(sample[pages][-1] - page[0]) / (pages - number + 1)
    return timedelta()


def _around(window: Window, burst: datetime) -> list[Window]:
    # It says nothing about the time around it, but a worker of its own can read it.
    cuts = cut(window, [burst - TICK, burst + TICK])
    return cuts if len(cuts) > 1 else []


def fitting(window: Window, instants: Sequence[datetime], most: int) -> list[Window]:
    """Cut a window into pieces of at most `most` of the instants each.

    An instant with more rows is a piece of its own.
    """
    at: list[datetime] = []
    rows, last = 0, EPOCH
    for instant, count in sorted(Counter(filter(window.holds, instants)).items()):
        if count > most:
            at += [instant - TICK, instant + TICK]
            rows = 0
        elif rows + count > most:
            # Between the two, where there is no row: one on a boundary would come with both pieces.
            at.append(last + (instant - last) / 2)
            rows = count
        else:
            rows += count
        last = instant
    return cut(window, at)


def instants(page: Page) -> list[datetime]:
    """Return the readable `updated_at` of a page's rows, in their order."""
    return [instant for each in page.versions if (instant := instant_in(each.updated))]


def instant_in(text: str) -> datetime | None:
    """Return the instant of a row's `updated_at`, None if it is unreadable or before 1970."""
    instant = parse_instant(text)
    # An unset time is written 0001-01-01T00:00:00Z, and nothing comes before it.
    return instant if instant and instant > EPOCH else None
