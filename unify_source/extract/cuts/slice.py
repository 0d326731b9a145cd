"""A slice of a portion's window: what was read of it, and whether that may lack rows."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

from unify_source.api.http_dates import http_date
from unify_source.api.outline import Version
from unify_source.api.pages import Page
from unify_source.common.times import parse_instant
from unify_source.extract.cuts.slicing import Sample, fitting, instant_in, is_in_order
from unify_source.extract.cuts.steps import Steps
from unify_source.extract.window import Window

if TYPE_CHECKING:
    from unify_source.extract.portion import Portion

# Room is left on a page: a piece also contains the rows that were skipped.
_FILLED = 0.9
# At some 200 bytes each. A longer slice keeps only a sample, and treats any changed row as its own.
_MOST_KNOWN = 200_000
_key = attrgetter("key")


@dataclass(frozen=True)
class Recent:
    """Recently changed rows, their keys, and the latest `updated_at`."""

    versions: AbstractSet[Version]
    keys: frozenset[str]
    latest: datetime | None

    @classmethod
    def of(cls, rows: AbstractSet[Version]) -> Recent:
        """Prepare rows to be compared with those of many slices."""
        times = filter(None, (parse_instant(each.updated) for each in rows))
        return cls(rows, frozenset(map(_key, rows)), max(times, default=None))


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
    _known: list[Version] = field(default_factory=list)
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
        # Times as text: parsing each takes longer than all other work on a page.
        self._known += page.versions[:: self._every]
        if len(self._known) > _MOST_KNOWN:
            self._known, self._every = self._known[::2], 2 * self._every

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

    def may_have_skipped(self, recent: Recent | None) -> bool:
        """Tell whether it may have skipped rows, given the rows that changed since it began.

        `recent` may include rows that changed before; None means that they are unknown.
        """
        if recent is None or self.changed_from is None:
            return True
        if not recent.keys or self._every > 1:
            return bool(recent.keys)
        # A row that becomes visible late may enter and leave the window unseen.
        if recent.latest and recent.latest > self.window.before >= self.changed_from:
            return True
        # The first row that left the pages already read was on one of them, in its old version.
        return not recent.keys.isdisjoint(map(_key, self._known)) and any(
            each.key in recent.keys and each not in recent.versions for each in self._known
        )

    def pieces(self, window: Window) -> list[Window]:
        """Cut a part of it into pieces that each fit a page, by the rows that were read."""
        instants = [at for each in self._known if (at := instant_in(each.updated))]
        return fitting(window, instants, max(1, int(_FILLED * self.fullest / self._every)))
