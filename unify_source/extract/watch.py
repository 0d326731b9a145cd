"""Notices rows that change while a list is read, whatever they were before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.resources import CURSOR, KEY
from unify_source.times import rfc3339

# The API's largest page, whatever the setting: more recent rows than this are not compared.
_LOOK = 100


class Watch:
    """Counts the `changes` that it notices from look to look: 0 before the first look.

    A row that changes gets an `updated_at` that lies at most the `lookback` before the moment from
    which the list shows it. So a look asks for the rows updated since shortly before the look
    before it. If they are those that it has seen, and no more than a page, no row has changed
    between the two looks. Safe from many threads.
    """

    def __init__(self, ask: Callable[[Parameters], Page], lookback: timedelta) -> None:
        self._ask = ask
        self._lookback = lookback
        self._looking = threading.Lock()
        self._before: datetime | None = None
        self._seen: set[tuple[Any, Any]] = set()
        self.changes = 0
        self.is_blind = False

    def begin(self, now: datetime | None) -> None:
        """Take the first look, unless one was taken; `now` is as in `look`."""
        with self._looking:
            if not self.changes:
                self._look(now)

    def look(self, now: datetime | None) -> int:
        """Look again; return the changes by now.

        `now` is the server's clock in the header of a response that has come before.
        """
        with self._looking:
            self._look(now)
            return self.changes

    def _look(self, before: datetime | None) -> None:
        # The server's clock before it made the list: the header of this look's own response may be
        # later than a change that the list does not show.
        since = self._before or before
        self._before = max(filter(None, [self._before, before]), default=None)
        if since is None:
            # Without its clock there is no telling what is recent.
            self.changes, self.is_blind = self.changes + 1, True
            return
        asked = [("limit", str(_LOOK)), ("updated_after", rfc3339(since - self._lookback))]
        page = self._ask(asked)
        seen = {_version(row) for row in page.rows}
        self.is_blind = page.next_cursor is not None
        if self.is_blind or not self.changes or not seen <= self._seen:
            self.changes += 1
        self._seen = seen


def _version(row: Any) -> tuple[Any, Any]:
    return (str(row.get(KEY)), str(row.get(CURSOR))) if isinstance(row, dict) else (repr(row), None)
