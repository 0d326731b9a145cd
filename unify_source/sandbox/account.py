"""An account's enrollments, as the API shows them now."""

import heapq
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from unify_source.sandbox import lifelike
from unify_source.sandbox.chance import dice, pick
from unify_source.sandbox.changes import Change, Team
from unify_source.sandbox.clock import Clock
from unify_source.sandbox.history import Span
from unify_source.sandbox.index import View
from unify_source.sandbox.instants import EPOCH, micros
from unify_source.sandbox.query import Query
from unify_source.sandbox.rows import Document, Row, Shared, decode

_VIEWS = 16
_EVERYTHING = Query()

Renames = Sequence[tuple[Shared, Document]]


class Commit(NamedTuple):
    """What becomes visible in one step: versions of rows, and other values of shared entities."""

    visible: int
    number: int
    rows: list[Row]
    renames: Renames


class Account:
    """Enrollments of one Unify account: lifelike, the same for the same arguments and clock start.

    `enrollments` rows were last updated within `days` before the clock's now, never after it; the
    last ten minutes hold 1 to 50 of them (if there are 100). `one_instant` more rows share one
    `updated_at`; the share `crowded` of the rows stands in 1 % of the time. Thread-safe.
    """

    def __init__(
        self,
        enrollments: int = 20_000,
        *,
        seed: int = 1,
        clock: Clock | None = None,
        days: int = 400,
        one_instant: int = 0,
        crowded: float = 0.0,
    ) -> None:
        self.clock = clock or Clock()
        span = Span(micros(self.clock.now()), days, one_instant, crowded)
        self._views: OrderedDict[Query, View] = OrderedDict()
        self._pending: list[Commit] = []
        self._awaited: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._commits = 0
        self._last_change = span.now
        self._lock = threading.RLock()
        with lifelike.uncollected():
            rows, self._entities = lifelike.enrollments(enrollments, seed, span)
            self._rows = {row.id: row for row in rows}
            self._view(_EVERYTHING)

    def __len__(self) -> int:
        with self._settled():
            return len(self._rows)

    def rows(self) -> list[Document]:
        """Return all rows visible now, parsed, in order of `updated_at`."""
        with self._settled():
            found = [self._rows[name] for _, name in self._view(_EVERYTHING).keys]
        return [row.document() for row in found]

    def ids(self) -> list[str]:
        """Return the ids of all rows visible now, in order of `updated_at`."""
        with self._settled():
            return [name for _, name in self._view(_EVERYTHING).keys]

    def get(self, enrollment_id: str) -> Document | None:
        """Return one visible row, parsed, or None."""
        text = self.json(enrollment_id)
        return None if text is None else decode(text)

    def json(self, enrollment_id: str) -> bytes | None:
        """Return one visible row as the API sends it, or None."""
        with self._settled():
            row = self._rows.get(enrollment_id)
            return row.json() if row else None

    def page(self, query: Query) -> tuple[list[bytes], str | None]:
        """Return a page of rows as the API sends them, and the next page's cursor or None."""
        with self._settled():
            keys, has_more = self._view(query).page(
                query.bounds if query.by_update else None,
                query.after,
                query.limit,
                backwards=query.order == "updated_desc",
            )
            page = [self._rows[name].json() for _, name in keys]
        return page, query.cursor(keys[-1]) if has_more else None

    def put(self, row: Document, *, visible_at: datetime | None = None) -> None:
        """Insert or replace one row, as it is; until `visible_at` the previous version shows."""
        self.put_many([row], visible_at=visible_at)

    def put_many(self, rows: Iterable[Document], *, visible_at: datetime | None = None) -> None:
        """Insert or replace rows as they are, all in one step."""
        with self._settled():
            self._commit([self._row(row) for row in rows], visible_at)

    def remove(self, enrollment_id: str) -> None:
        """Take a row away, and what is pending of it; an unknown id is no error."""
        with self._settled():
            self._awaited.pop(enrollment_id, None)
            self._shown[enrollment_id] = self._commits
            if old := self._rows.pop(enrollment_id, None):
                self._reindex([old], [])

    def change(self, count: int, *, seed: int, visible_after: timedelta | None = None) -> list[str]:
        """Make `count` lifelike changes, visible `visible_after` from now; return the ids touched.

        Deterministic in `seed` and in what the account holds. Each change is stamped with its own
        `updated_at`, a microsecond after the one before, the last one now; the rows of one change
        share it. To make room for them a simulated clock moves on by at most `count` microseconds.
        """
        touched: dict[str, None] = {}
        with self._settled():
            # No change lies in the server's future, and each version is newer than the one before.
            self.clock.reach(EPOCH + timedelta(microseconds=self._last_change + count))
            now = self.clock.now()
            due = now + visible_after if visible_after else None
            # The same seed again must not bring the same ids again.
            rng = dice("changes", seed, self._commits)
            team = Team(self._sample, lambda: self._entities.count("person"), rng)
            for us in range(micros(now) - count + 1, micros(now) + 1):
                self._last_change = us
                touched.update(dict.fromkeys(self._make(team.change(us), due)))
        return list(touched)

    def _make(self, change: Change, due: datetime | None) -> list[str]:
        rows = [self._row(document) for document in change.documents]
        cells = [(self._entities.known(kind, name), new) for kind, name, new in change.renames]
        self._commit(rows, due, [(cell, new) for cell, new in cells if cell])
        return [row.id for row in rows]

    def _sample(self, rng: Random) -> Document | None:
        """Return any row that can be changed, or None if one happened upon cannot."""
        keys = self._view(_EVERYTHING).keys
        if not keys:
            return None
        row = self._rows[pick(keys, rng)[1]]
        return row.document() if row.is_regular and row.id not in self._awaited else None

    def _row(self, document: Document) -> Row:
        now = micros(self.clock.now())
        name = document.get("id")
        old = self._rows.get(name) if isinstance(name, str) else None
        return self._entities.row(
            document, otherwise=(old.created, old.updated) if old else (now, now)
        )

    def _commit(self, rows: list[Row], visible_at: datetime | None, renames: Renames = ()) -> None:
        self._commits += 1
        by_id = {row.id: row for row in rows}
        visible = micros(visible_at or self.clock.now())
        heapq.heappush(self._pending, Commit(visible, self._commits, list(by_id.values()), renames))
        self._awaited.update(dict.fromkeys(by_id, self._commits))
        self._settle()

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Hold the account still, with everything visible that is due."""
        with self._lock:
            self._settle()
            yield

    def _settle(self) -> None:
        now = micros(self.clock.now())
        while self._pending and self._pending[0].visible <= now:
            commit = heapq.heappop(self._pending)
            # A version must not come back once a later one has been shown in its place.
            rows = [row for row in commit.rows if self._shown.get(row.id, 0) < commit.number]
            for row in rows:
                self._shown[row.id] = commit.number
                if self._awaited.get(row.id) == commit.number:
                    del self._awaited[row.id]
            old = [self._rows[row.id] for row in rows if row.id in self._rows]
            self._rows.update({row.id: row for row in rows})
            self._reindex(old, rows)
            for cell, values in commit.renames:
                cell.update(values)

    def _reindex(self, old: list[Row], new: list[Row]) -> None:
        for view in self._views.values():
            view.replace(old, new)

    def _view(self, query: Query) -> View:
        """Return the index that answers a query; the last few are kept, and kept current."""
        wanted = query.selection()
        view = self._views.pop(wanted, None)
        if view is None:
            view = View(wanted.position, wanted.matches, self._rows.values())
        self._views[wanted] = view
        if len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return view
