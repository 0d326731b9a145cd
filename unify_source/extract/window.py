"""Closed ranges of `updated_at`, cut and joined. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from unify_source.common.errors import BrokenPage
from unify_source.common.times import EPOCH, TICK, rfc3339

CLOCK_TOLERANCE = timedelta(minutes=5)


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

    def covers(self, other: Window) -> bool:
        """Tell whether another window lies in it."""
        is_begun = self.after is None or (other.after is not None and self.after <= other.after)
        return is_begun and other.before <= self.before

    def parameters(self) -> list[tuple[str, str]]:
        """Return it as the API's parameters."""
        # The API's reference says that both bounds are inclusive. So rows on a shared boundary come
        # twice, which the merge absorbs; with a gap they would be lost.
        lower = [("updated_after", rfc3339(self.after))] if self.after else []
        return [*lower, ("updated_before", rfc3339(self.before))]


NO_TIME = Window(EPOCH + TICK, EPOCH)
"""A window that holds no instant."""


@dataclass(frozen=True)
class Span:
    """Which part of a longer run one load reads.

    `window` is closed. About `enough` rows are read of it, the oldest first or, with
    `newest_first`, the newest; None reads all.
    """

    window: Window
    enough: int | None = None
    newest_first: bool = False

    def rest(self, covered: Window) -> Window | None:
        """Return what is left of its window once a part was covered, None if nothing is left."""
        window = self.window
        if self.newest_first:
            after, before = window.after, covered.after or window.after
        else:
            after, before = covered.before, window.before
        return Window(after, before) if after and before and after < before else None


@dataclass(frozen=True)
class Interval:
    """A range that was asked for: from `start` on, until `end`, which belongs to it if `closed`."""

    start: datetime | None = None
    end: datetime | None = None
    closed: bool = False


def cut(window: Window, at: Sequence[datetime]) -> list[Window]:
    """Cut a window at the given instants, which neighbours share, so that no row falls between.

    The server's instants may be finer than a microsecond, so there is no gap of one either.
    """
    inside = sorted(
        {i for i in at if i < window.before and (window.after is None or i > window.after)}
    )
    ends = [*inside, window.before]
    return [
        Window(lower, upper) for lower, upper in zip([window.after, *inside], ends, strict=True)
    ]


def joined(windows: Iterable[Window]) -> list[Window]:
    """Join windows that touch, and return the result with the oldest first."""
    apart: list[Window] = []
    for window in sorted(windows, key=begin):
        if apart and begin(window) <= apart[-1].before:
            apart[-1] = Window(apart[-1].after, max(apart[-1].before, window.before))
        else:
            apart.append(window)
    return apart


def wrong_clock(server: datetime, here: datetime) -> str | None:
    """Return a warning if the clock that closes a window is far from this machine's."""
    if abs(server - here) <= CLOCK_TOLERANCE:
        return None
    harm = (
        "the cursor is ahead too, and later runs miss what changes after the clock is set right."
        " Then load from that time on with a backfill."
    )
    if server < here:
        harm = (
            "this run loads no row that was updated after that. Once the clock is right, run it"
            " again: that loads them."
        )
    return (
        f"The API's clock says {rfc3339(server)}, but this machine's {rfc3339(here)}: if the API's"
        f" is wrong, {harm}"
    )


def begin(window: Window) -> datetime:
    """Return the first instant of a window, 1970 where it reaches back to the first row."""
    return window.after or EPOCH


def refuse_set_back(window: Window) -> None:
    """Refuse a window that ends before it begins: the clock that closed it was set back.

    Raises BrokenPage.
    """
    # The window would be empty, and the run would say that nothing changed.
    if window.is_empty and window.after:
        raise BrokenPage(
            f"The API's clock says {rfc3339(window.before)}, but this run has to begin later, at"
            f" {rfc3339(window.after)}: the clock must have been set back.",
            "Nothing was loaded. If the clock is wrong now, run it again once it is right. If it"
            " was ahead before, changes are behind the cursor until its time has passed: load them"
            f" with a backfill from {rfc3339(window.before)}.",
        )


def left_after(windows: list[Window], rest: Window | None) -> list[Window]:
    """Return what is left of several windows once the first has been read up to its `rest`."""
    return [rest, *windows[1:]] if rest else windows[1:]
