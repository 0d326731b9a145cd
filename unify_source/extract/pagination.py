"""Follows one list from cursor to cursor, until it ends or appears to be endless."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from unify_source.api.connection import Parameters
from unify_source.api.outline import Version
from unify_source.api.pages import Page
from unify_source.common.errors import BrokenPage
from unify_source.common.resources import CURSOR, KEY
from unify_source.common.settings.limits import USUAL, Limits
from unify_source.common.times import rfc3339
from unify_source.extract.cuts.slicing import instant_in
from unify_source.extract.window import Window

_SLOTS = 1 << 20
# How often recent rows are listed while they change.
_LISTINGS = 2


def follow(
    ask: Callable[[Parameters], Page],
    parameters: Parameters,
    window: Window | None = None,
    limits: Limits = USUAL,
) -> Iterator[Page]:
    """Yield the pages of one list, or of one window of it.

    Raises BrokenPage where a cursor repeats, and where, after its first `max_idle_pages`, as many
    in a row contain no new row of the window.
    """
    asked = [*parameters, *(window.parameters() if window else ())]
    cursors: set[int] = set()
    most = limits.max_idle_pages
    progress = _Progress(window)
    page = ask(asked)
    while True:
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return
        if hash(cursor) in cursors:
            raise _endless("the same next_cursor twice", window)
        # Hashes, not texts: ten million rows make 100,000 cursors, of up to 4,096 characters each.
        cursors.add(hash(cursor))
        # Inspecting rows takes as long as reading them: only a list this long is suspicious.
        is_long = len(cursors) >= most
        if is_long and progress.idle_pages(page.rows) >= most:
            raise _endless(f"{most:,} pages in a row without a new row (max_idle_pages)", window)
        # Filters and bounds are sent with each cursor: whether it carries them is not documented,
        # and a server that forgets them would list the whole account from here on.
        page = ask([*asked, ("cursor", cursor)])


def follow_closely(
    ask: Callable[[Parameters], Page | None], parameters: Parameters, window: Window
) -> bool:
    """Read a window's list while its rows change; tell whether no unchanged row was skipped.

    Takes two requests a page. `ask` returns None once it has been called too often.
    """
    asked = [*parameters, *window.parameters()]
    here = asked
    page = ask(here)
    while page and page.next_cursor is not None:
        there = [*asked, ("cursor", page.next_cursor)]
        following = ask(there)
        # If rows have left the list, the second page begins too far on. Asked again, the first page
        # shows the rows between, unless more than a page has moved up.
        again = following and ask(here)
        if not again or _keys(page).isdisjoint(_keys(again)):
            return False
        here, page = there, following
    return page is not None


def updated_since(
    ask: Callable[[Parameters], Page], since: datetime | None, most_pages: int, limit: int
) -> set[Version] | None:
    """Return the rows that were updated since an instant; None if they fill more pages than that.

    `limit` is how many rows a page has. `since` is None if the server's time is unknown.
    """
    if since is None:
        return None
    # Without filters, which would hide a row that no longer matches them.
    asked = [("limit", str(limit)), ("updated_after", rfc3339(since))]
    for _ in range(_LISTINGS):
        versions = _listed(follow(ask, asked), most_pages)
        # A listed row that changes moves behind the others, and may push one out of the next page.
        # It is then listed again.
        if versions is None or len({each.key for each in versions}) == len(versions):
            return versions
    return None


def _listed(pages: Iterator[Page], most_pages: int) -> set[Version] | None:
    versions: set[Version] = set()
    for page in islice(pages, most_pages):
        versions.update(page.versions)
        if page.next_cursor is None:
            return versions
    return None


def _keys(page: Page) -> set[str]:
    return {identity(row) for row in page.rows}


class _Progress:
    """Remembers which rows a list has contained, in one megabyte however many there are.

    Two rows may share a slot, so a new row may look known, but not a hundred pages of them.
    """

    def __init__(self, window: Window | None) -> None:
        self._window = window
        # Allocated when it is needed: a short list does without.
        self._seen = bytearray()
        self._idle_pages = 0

    def idle_pages(self, rows: Sequence[Any]) -> int:
        """Return how many pages in a row, up to this one, contained nothing new."""
        fresh = []
        self._seen = self._seen or bytearray(_SLOTS)
        for row in rows:
            slot = hash(identity(row)) % _SLOTS
            if not self._seen[slot]:
                self._seen[slot] = 1
                fresh.append(row)
        self._idle_pages = 0 if any(map(self._is_inside, fresh)) else self._idle_pages + 1
        return self._idle_pages

    def _is_inside(self, row: Any) -> bool:
        # A row with an unreadable time counts as inside: judging it is the decoder's task.
        text = row.get(CURSOR) if isinstance(row, dict) else None
        instant = instant_in(text) if isinstance(text, str) else None
        return self._window is None or instant is None or self._window.holds(instant)


def identity(row: Any) -> str:
    """Return a row's id, or its text if it has none."""
    key = row.get(KEY) if isinstance(row, dict) else None
    return key if isinstance(key, str) else repr(row)


def _endless(what: str, window: Window | None) -> BrokenPage:
    where = f" (updated_before {window.before.isoformat()})" if window else ""
    return BrokenPage(
        f"The API sent {what}, so the list would never end{where}.",
        "Nothing is lost: run it again. If it stays so, please report it to Unify.",
    )
