"""The visible rows of an account, found in any order, and the pending ones."""

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from unify_source.sandbox.account.clock import Clock
from unify_source.sandbox.account.index import View
from unify_source.sandbox.account.instants import micros
from unify_source.sandbox.account.query import Query
from unify_source.sandbox.invent.rows import Document, Row, Shared

# Several workers request page after page with the same filters. Sorting all rows for each would
# make the sandbox the slowest part of every measurement against it.
_VIEWS = 16
_EVERYTHING = Query()

Renames = Sequence[tuple[Shared, Document]]


class Commit(NamedTuple):
    """What becomes visible in one step: versions of rows, and other values of shared entities.

    Times in microseconds; it was `made` before, or when, it becomes `visible`.
    """

    visible: int
    number: int
    made: int
    rows: list[Row]
    renames: Renames


class Store:
    """Rows by id in their visible versions; `on_commit` is called when commits become visible.

    Thread-safe within `settled()`, which every other method needs.
    """

    def __init__(
        self, clock: Clock, rows: Iterable[Row], on_commit: Callable[[Commit], None]
    ) -> None:
        self.commits = 0
        self.rows = {row.id: row for row in rows}
        self._clock = clock
        self._on_commit = on_commit
        self._views: OrderedDict[Query, View[Row]] = OrderedDict()
        self._pending: list[Commit] = []
        self._awaited: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._lock = threading.RLock()
        self.view(_EVERYTHING)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Lock the store, with everything visible that is due."""
        with self._lock:
            self._settle()
            yield

    def commit(self, rows: Iterable[Row], renames: Renames, made: int, visible: int) -> None:
        """Show rows and renames from the instant `visible` on, all in one step."""
        self.commits += 1
        by_id = {row.id: row for row in rows}
        commit = Commit(visible, self.commits, made, list(by_id.values()), renames)
        # How soon a change becomes visible is not documented. Behind a replica, a row appears later
        # than its `updated_at`, after rows that were changed later: that is what `lookback` is for.
        heapq.heappush(self._pending, commit)
        self._awaited.update(dict.fromkeys(by_id, self.commits))
        self._settle()

    def remove(self, row_id: str) -> None:
        """Remove a row and its pending versions; an unknown id is no error."""
        self._awaited.pop(row_id, None)
        self._shown[row_id] = self.commits
        if old := self.rows.pop(row_id, None):
            self._reindex([old], [])

    def is_awaited(self, row_id: str) -> bool:
        """Tell whether a later version of a row has yet to become visible."""
        return row_id in self._awaited

    def view(self, query: Query = _EVERYTHING) -> View[Row]:
        """Return the index that answers a query; the last few are cached and updated."""
        wanted = query.selection()
        view = self._views.pop(wanted, None)
        if view is None:
            view = View(wanted.position, wanted.matches, self.rows.values())
        self._views[wanted] = view
        if len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return view

    def _settle(self) -> None:
        now = micros(self._clock.now())
        while self._pending and self._pending[0].visible <= now:
            commit = heapq.heappop(self._pending)
            # A version must not return once a later one has been shown.
            rows = [row for row in commit.rows if self._shown.get(row.id, 0) < commit.number]
            for row in rows:
                self._shown[row.id] = commit.number
                if self._awaited.get(row.id) == commit.number:
                    del self._awaited[row.id]
            old = [self.rows[row.id] for row in rows if row.id in self.rows]
            self.rows.update({row.id: row for row in rows})
            self._reindex(old, rows)
            for cell, values in commit.renames:
                cell.update(values)
            self._on_commit(commit._replace(rows=rows))

    def _reindex(self, old: list[Row], new: list[Row]) -> None:
        for view in self._views.values():
            view.replace(old, new)
