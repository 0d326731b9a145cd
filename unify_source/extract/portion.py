"""A portion of a window, and its work: slices to read, checks of them, pieces to read again.

A page cursor may hide an offset. If a row of a slice then changes while the slice is read, it
leaves the slice, all rows behind it move up, and the next page skips one that did not change, which
no later run would read. A single page skips nothing. So a slice of several pages is checked: if one
of its rows has changed meanwhile, it is read again, in pieces that fit one page each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from unify_source.common.settings.limits import LARGEST_PAGE
from unify_source.extract.cuts.slice import Recent, Slice
from unify_source.extract.cuts.slicing import fitting
from unify_source.extract.page_queue import PageQueue
from unify_source.extract.window import Window, begin

# A check costs a request: one per 64 pages, and one when a portion ends. A listing of recent rows
# may take one more page per 16 pages: reading all slices again costs far more. After a bulk change,
# they fill more pages. A later check, of more slices, may read as many, and the last one even more.
# What slices keep until then takes some 200 bytes a row.
_CHECKED_PAGES, _PAGES_A_LOOK, _PAGES_A_LAST_LOOK = 64, 16, 6
_MOST_UNCHECKED_PAGES = 2_048
# The first check comes early: if rows change, the rest can be read differently.
_FIRST_CHECKED_PAGES = 16
# A bulk change puts many rows at one instant, and a server may ignore the bounds: neither fits a
# page, however it is cut. The run must end anyway.
_MOST_AGAIN, _FREE_AGAIN = 2, 100
_NEARLY_FULL = 16


@dataclass(eq=False)
class Piece:
    """A part of a slice, to be read again."""

    portion: Portion
    window: Window

    def cut(self, page: list[datetime]) -> bool:
        """Cut it by its first page if it does not fit on one; False if it cannot be cut."""
        halves = fitting(self.window, page, max(1, len(page) // 2))
        # A server that ignores the bounds would be asked for ever smaller pieces.
        if len(halves) == 1 or not all(map(self.window.holds, page)):
            return False
        self.portion.read_again(halves)
        return True


@dataclass(eq=False)
class Check:
    """Slices that were read, to be checked by what changed since.

    Unless it `is_last`, slices can be checked again later. If the check before found that rows
    change faster than can be checked, `is_fast`, no such time comes. `listed` is how many pages of
    changed rows that check found.
    """

    portion: Portion
    slices: list[Slice]
    is_last: bool
    is_fast: bool
    listed: int

    @property
    def changed_from(self) -> datetime | None:
        """The instant from which changes matter; None if the server's time is unknown."""
        return min(filter(None, (each.changed_from for each in self.slices)), default=None)

    @property
    def most_pages(self) -> int:
        """How many pages of changed rows are worth reading."""
        is_worth_more = self.is_last and not self.is_fast
        pages_a_look = _PAGES_A_LAST_LOOK if is_worth_more else _PAGES_A_LOOK
        pages = _pages(self.slices)
        # What that check found is listed again: worth one page less than reading the slices again.
        again = min(self.listed + 1, pages - 1) if is_worth_more else 0
        return max(1 + ceil(pages / pages_a_look), again)


Work = Slice | Piece | Check


@dataclass(eq=False)
class Portion:
    """What is loaded together: a window, or as much of what is left as is enough.

    `reached` holds the far ends of the slices that were begun, `in_hand` counts work in progress.
    `unsettled` are the windows that changed too often to be read without a gap.
    """

    window: Window
    queue: PageQueue
    pages_left: int | None
    in_hand: int = 0
    reached: set[datetime] = field(default_factory=set)
    unsettled: list[Window] = field(default_factory=list)
    _unchecked: list[Slice] = field(default_factory=list)
    _pieces: deque[Window] = field(default_factory=deque)
    _pages: int = 0
    _again: int = 0
    _check_at: int = _FIRST_CHECKED_PAGES
    _is_fast: bool = False
    _listed: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it has enough pages, so that it ends with the slices that were begun."""
        return self.pages_left is not None and self.pages_left <= 0

    @property
    def is_nearly_full(self) -> bool:
        """Whether it ends in a few pages: its slices should be cut by then."""
        return self.pages_left is not None and self.pages_left <= _NEARLY_FULL

    @property
    def is_settled(self) -> bool:
        """Whether none of its slices waits to be checked or read again."""
        return not (self._unchecked or self._pieces)

    def holds(self, window: Window) -> bool:
        """Tell whether a window lies in its own."""
        return begin(window) >= begin(self.window) and window.before <= self.window.before

    def check_later(self, slice_: Slice) -> None:
        """Note a slice of several pages that was read to its end."""
        self._pages += slice_.pages
        self._unchecked.append(slice_)

    def look_early(self, slice_: Slice) -> None:
        """Ask at once what changed, to decide how to continue; the slice is not read again."""
        self._unchecked.append(slice_)

    def settling(self, *, is_read: bool) -> bool:
        """Tell whether there is something to check or to read again now.

        `is_read` says that nothing else of the portion is left to read.
        """
        if any(slice_.is_cut for slice_ in self._unchecked):
            return True
        unchecked = _pages(self._unchecked)
        return bool(self._pieces or (unchecked and is_read) or unchecked >= self._check_at)

    def settle(self, *, is_read: bool) -> Piece | Check:
        """Return the next piece to read again, or else a check."""
        if self._pieces:
            return Piece(self, self._pieces.popleft())
        # Until a slice that was cut has been checked, nothing else is cut, and workers may wait.
        cut = [each for each in self._unchecked if each.is_cut]
        slices = cut or self._unchecked
        self._unchecked = [each for each in self._unchecked if not each.is_cut] if cut else []
        self._check_at = max(self._check_at, _CHECKED_PAGES)
        is_last = is_read or _pages(slices) >= _MOST_UNCHECKED_PAGES
        return Check(self, slices, is_last, self._is_fast, self._listed)

    def checked(
        self,
        check: Check,
        recent: Recent | None,
        again_from: datetime | None,
        *,
        is_whole: bool,
    ) -> list[Slice]:
        """Return the slices that may have skipped rows; read them again, up to an instant.

        `recent` are the rows updated since. If these are not the whole, the other slices are
        checked again later, with as many more.
        """
        suspects = [each for each in check.slices if each.may_have_skipped(recent)]
        for slice_ in suspects:
            if not slice_.is_cut:
                after, before = slice_.window.after, slice_.window.before
                window = Window(after, min(before, again_from or before))
                self.read_again(slice_.pieces(window))
        self._is_fast = recent is None
        self._listed = ceil(len(recent.keys if recent else ()) / LARGEST_PAGE)
        pages = _PAGES_A_LOOK * self._listed
        if not is_whole:
            again = set(suspects)
            self._unchecked += [each for each in check.slices if not (each.is_cut or each in again)]
            pages = 2 * _pages(self._unchecked)
        self._check_at = min(max(pages, _CHECKED_PAGES), _MOST_UNCHECKED_PAGES)
        return suspects

    def read_again(self, windows: Iterable[Window]) -> None:
        """Read these windows again, each in one request."""
        self._pieces.extendleft(windows)

    def may_read_again(self) -> bool:
        """Count a page that is read again; False if there have been too many."""
        self._again += 1
        return self._again <= _MOST_AGAIN * self._pages + _FREE_AGAIN


def _pages(slices: Iterable[Slice]) -> int:
    return sum(each.pages for each in slices)
