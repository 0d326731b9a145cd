"""Samples the instants of a list's rows: hints where to cut, never bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.common.times import EPOCH, TICK
from unify_source.extract.cuts.slicing import instants
from unify_source.extract.window import Window, cut

Ask = Callable[[Parameters], Page]
"""Asks for a page of a list."""

# Up to 22 years, in steps of the square root of two.
_LOOKS_BACK = 27


def first_instant(ask: Ask, before: datetime) -> datetime | None:
    """Return an instant before which there was no row at the time; None if none was found.

    It is just before the first row where the list begins with the oldest, else as in `first_look`.
    Takes at most seven requests of one row, one after another.
    """
    # The order of the list is not documented. If it begins with the oldest row, two requests tell.
    for instant in instants(_first_page(ask, before))[:1]:
        if _is_empty(ask, instant - TICK):
            return instant - TICK
    return first_look(ask, before)


def first_look(ask: Ask, before: datetime) -> datetime | None:
    """Return an instant before which there was no row, whatever the order of the list.

    Its age is at most one and a half times that of the first row, or a day. Takes five requests.
    """
    if before <= EPOCH:
        return None
    looks = [timedelta(days=2 ** (step / 2)) for step in range(_LOOKS_BACK)]
    steps = [before - min(look, before - EPOCH) for look in looks]
    # Once no row lies before an instant, none lies before an earlier one, so bisection takes five
    # requests where a walk would take up to 27.
    nearest = bisect_left(steps, x=True, key=partial(_is_empty, ask))
    return steps[nearest] if nearest < _LOOKS_BACK else None


def _first_page(ask: Ask, until: datetime) -> Page:
    return ask([("limit", "1"), *Window(None, until).parameters()])


def _is_empty(ask: Ask, until: datetime) -> bool:
    page = _first_page(ask, until)
    # A server that filters after paging sends empty pages in the middle of a list.
    return page.next_cursor is None and not page.rows


def without_past(ask: Ask, window: Window) -> list[Window]:
    """Cut off the time before the first row, so that the rest of a window can be cut by time."""
    if window.after is not None:
        return [window]
    first = first_instant(ask, window.before)
    return cut(window, [first] if first else [])
