"""A portion of a window, and its work: slices to read, checks of them, pieces to read again.

A page cursor may hide an offset. If a row of a slice then changes while the slice is read, it
leaves the slice, all rows behind it move up, and the next page skips one that did not change, which
no later run would read. A single page skips nothing. So a slice of several pages is checked: if one
of its rows has changed meanwhile, it is read again, in pieces that fit one page each.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from unify_source.api.http_dates import http_date
from unify_source.api.pages import Page, Version
from unify_source.extract.cuts.slicing import Sample, fitting, is_in_order
from unify_source.extract.cuts.steps import Steps
from unify_source.extract.page_queue import PageQueue
from unify_source.extract.probe import instant_in
from unify_source.extract.window import Window, begin
from unify_source.times import parse_instant

# A check costs a request: one per 64 pages, and one when a portion ends. It may read one more page
# per 16 pages: reading all slices again costs far more.
_CHECKED_PAGES, _PAGES_A_LOOK = 64, 16
# The first check comes early: if rows change, the rest can be read differently.
_FIRST_CHECKED_PAGES = 16
# Room is left on a page: a piece also contains the rows that were skipped.
_FILLED = 0.9
# A bulk change puts many rows at one instant, and a server may ignore the bounds: neither fits a
# page, however it is cut. The run must end anyway.
_MOST_AGAIN, _FREE_AGAIN = 2, 100
_MOST_TEXTS = 100_000
_NEARLY_FULL = 16
# At 16 bytes each. In a longer slice, any changed row counts as one of the slice's own.
_MOST_KNOWN = 250_000


@dataclass(eq=False)
class Slice:
    """A window that is being read, page by page, and the instants on some of its pages.

    It keeps the last page and every page whose number is a power of four: enough to tell the order.
    A row that has changed since its first page was `changed_from` then or later.
    """

    portion: Portion
    window: Window
    pages: int = 0
    look_at: int = 1
    sample: Sample = field(default_factory=dict)
    is_cut: bool = False
    is_past_known: bool = False
    steps: Steps | None = None
    rows: int = 0
    fullest: int = 1
    changed_from: datetime | None = None
    _keys: array[int] = field(default_factory=lambda: array("q"))
    _updated: array[int] = field(default_factory=lambda: array("q"))
    _texts: list[str] = field(default_factory=list)
    _every: int = 1

    def begin(self, page: Page, ago: timedelta) -> None:
        """Note the instant, `ago` before its first page, from which changes matter.

        A change is listed at most that long after its `updated_at`.
        """
        sent_at = http_date(page.date)
        self.changed_from = sent_at - ago if sent_at else None

    def note(self, page: Page) -> None:
        """Keep the keys and times of a page's rows, in case they have to be read again."""
        self.rows += len(page.versions)
        self.fullest = max(self.fullest, len(page.versions))
        updated = [each.updated for each in page.versions]
        # As text: parsing each takes longer than all other work on a page.
        self._texts += updated[:: self._every]
        if len(self._texts) > _MOST_TEXTS:
            self._texts, self._every = self._texts[::2], 2 * self._every
        if len(self._keys) <= _MOST_KNOWN:
            self._keys.extend(map(hash, [each.key for each in page.versions]))
            self._updated.extend(map(hash, updated))

    def look(self, page: list[datetime]) -> Sample:
        """Return the pages that were kept, and this one as the last."""
        sample = {**self.sample, self.pages: page}
        if self.pages == self.look_at:
            self.sample = sample
            self.look_at *= 4
        return sample

    def lacks_past(self, page: list[datetime]) -> bool:
        """Tell whether it cannot be cut before the time of its first row is known.

        That is the case if the newest rows come first.
        """
        is_open = self.window.after is None and not self.is_past_known
        return is_open and len(set(page)) > 1 and page[0] > page[-1] and is_in_order(page)

    def may_have_skipped(self, recent: Collection[Version] | None) -> bool:
        """Tell whether it may have skipped rows, given the rows that changed since it began.

        `recent` may include rows that changed before; None means that they are unknown.
        """
        if recent is None or self.changed_from is None:
            return True
        if not recent or len(self._keys) > _MOST_KNOWN:
            return bool(recent)
        # A row that becomes visible late may enter and leave the window unseen.
        if self.window.before >= self.changed_from and any(map(self._is_beyond, recent)):
            return True
        versions = {(hash(each.key), hash(each.updated)) for each in recent}
        keys = {key for key, _ in versions}
        # The first row that left the pages already read was on one of them, in its old version.
        return any(
            key in keys and (key, updated) not in versions
            for key, updated in zip(self._keys, self._updated, strict=True)
        )

    def _is_beyond(self, version: Version) -> bool:
        at = parse_instant(version.updated)
        return at is not None and at > self.window.before

    def pieces(self, window: Window) -> list[Window]:
        """Cut a part of it into pieces that each fit a page, by the rows that were read."""
        instants = [each for each in map(instant_in, self._texts) if each]
        return fitting(window, instants, max(1, int(_FILLED * self.fullest / self._every)))


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
    """Slices that were read, to be checked by one request for what changed since."""

    portion: Portion
    slices: list[Slice]

    @property
    def changed_from(self) -> datetime | None:
        """The instant from which changes matter; None if the server's time is unknown."""
        return min(filter(None, (each.changed_from for each in self.slices)), default=None)

    @property
    def most_pages(self) -> int:
        """How many pages of changed rows are worth reading."""
        return 1 + ceil(sum(each.pages for each in self.slices) / _PAGES_A_LOOK)


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
    _is_checked: bool = False

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
        unchecked = sum(slice_.pages for slice_ in self._unchecked)
        if any(slice_.is_cut for slice_ in self._unchecked):
            return True
        enough = _CHECKED_PAGES if self._is_checked else _FIRST_CHECKED_PAGES
        return bool(self._pieces or (unchecked and is_read) or unchecked >= enough)

    def settle(self) -> Piece | Check:
        """Return the next piece to read again, or else a check."""
        if self._pieces:
            return Piece(self, self._pieces.popleft())
        check, self._is_checked = Check(self, self._unchecked), True
        self._unchecked = []
        return check

    def read_again(self, windows: Iterable[Window]) -> None:
        """Read these windows again, each in one request."""
        self._pieces.extendleft(windows)

    def may_read_again(self) -> bool:
        """Count a page that is read again; False if there have been too many."""
        self._again += 1
        return self._again <= _MOST_AGAIN * self._pages + _FREE_AGAIN
