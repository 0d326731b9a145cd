"""An account's enrollments and sequences, as the API currently shows them."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

from unify_source.sandbox.account.changes import Team, new_name, upgraded
from unify_source.sandbox.account.clock import Clock
from unify_source.sandbox.account.history import Span
from unify_source.sandbox.account.index import View
from unify_source.sandbox.account.instants import EPOCH, micros, stamp
from unify_source.sandbox.account.query import Query
from unify_source.sandbox.account.sequences import Sequence, Sequences
from unify_source.sandbox.account.store import Commit, Store
from unify_source.sandbox.invent import lifelike
from unify_source.sandbox.invent.chance import dice, pick, uuid
from unify_source.sandbox.invent.roster import Roster
from unify_source.sandbox.invent.rows import Document, Row, Shared, decode


class Account:
    """One Unify account: lifelike, the same for the same arguments and clock start.

    `enrollments` rows were last updated within `days` before the clock's now, never after it; the
    last ten minutes hold 1 to 50 of them (if there are 100). `one_instant` more rows share one
    `updated_at`; the share `crowded` of the rows stands in 1 % of the time. The account lists the
    sequences that its enrollments nest. Thread-safe.
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
        self._last_change = span.now
        self._sequences = Sequences(Roster(seed, span.first))
        with lifelike.uncollected():
            rows, self._entities = lifelike.enrollments(enrollments, seed, span)
            cells = {row.sequence.id: row.sequence for row in rows}
            self._sequences.begin(cells.values(), span.first, span.now)
            self._store = Store(self.clock, rows, self._became_visible)

    def __len__(self) -> int:
        with self._store.settled():
            return len(self._store.rows)

    def rows(self) -> list[Document]:
        """Return all enrollments visible now, parsed, sorted by `updated_at`."""
        with self._store.settled():
            listed = [self._store.rows[name] for _, name in self._store.view().keys]
        return [row.document() for row in listed]

    def ids(self) -> list[str]:
        """Return the ids of all enrollments visible now, sorted by `updated_at`."""
        with self._store.settled():
            return [name for _, name in self._store.view().keys]

    def sequences(self) -> list[Document]:
        """Return all sequences listed now, oldest first."""
        with self._store.settled():
            return [one.document() for one in self._sequences.oldest_first()]

    def get(self, enrollment_id: str) -> Document | None:
        """Return one visible enrollment, parsed, or None."""
        text = self.json(enrollment_id)
        return None if text is None else decode(text)

    def json(self, row_id: str, listing: str = "enrollments") -> bytes | None:
        """Return one visible row of a list as the API sends it, or None."""
        with self._store.settled():
            row = self._rows_of(listing).get(row_id)
            return row.json() if row else None

    def page(self, query: Query) -> tuple[list[bytes], str | None]:
        """Return a page of rows as the API sends them, and the next page's cursor or None."""
        with self._store.settled():
            rows = self._rows_of(query.listing)
            keys, has_more = self._view(query).page(
                query.bounds if query.by_update else None,
                query.after,
                query.limit,
                backwards=query.order == "updated_desc",
            )
            page = [rows[name].json() for _, name in keys]
        return page, query.next_cursor(keys) if has_more else None

    def put(self, row: Document, *, visible_at: datetime | None = None) -> None:
        """Insert or replace one enrollment as it is; until `visible_at`, the old one shows."""
        self.put_many([row], visible_at=visible_at)

    def put_many(self, rows: Iterable[Document], *, visible_at: datetime | None = None) -> None:
        """Insert or replace enrollments as they are, all in one step.

        A sequence that only they nest is listed from then on, with an invented owner and times; if
        it has several names, that of the enrollment updated last counts.
        """
        with self._store.settled():
            now = micros(self.clock.now())
            self._commit([self._row(row) for row in rows], now, visible_at)

    def remove(self, enrollment_id: str) -> None:
        """Remove an enrollment and its pending versions; an unknown id is no error."""
        with self._store.settled():
            self._store.remove(enrollment_id)

    def change(self, count: int, *, seed: int, visible_after: timedelta | None = None) -> list[str]:
        """Make `count` lifelike changes, visible `visible_after` from now; return the ids touched.

        Deterministic in `seed` and in what the account holds. Each change is stamped with its own
        `updated_at`, a microsecond after the one before, the last one now; the rows of one change
        share it. To make room for them a simulated clock moves on by at most `count` microseconds.
        """
        touched: dict[str, None] = {}
        with self._store.settled():
            now = self._moments(count)
            due = self.clock.now() + visible_after if visible_after else None
            # The same seed must not produce the same ids again.
            rng = dice("changes", seed, self._store.commits)
            team = Team(self._sample, lambda: self._entities.count("person"), rng)
            for us in range(now - count + 1, now + 1):
                change = team.change(us)
                rows = [self._row(document) for document in change.documents]
                touched.update(dict.fromkeys(row.id for row in rows))
                renames = {
                    cell: new
                    for kind, name, new in change.renames
                    for cell in self._cells(kind, name)
                }
                self._commit(rows, us, due, renames)
        return list(touched)

    def rename_sequence(self, sequence_id: str, name: str) -> None:
        """Rename a listed sequence: its `updated_at` moves, that of its enrollments does not.

        Enrollments nest the new name at once, except those that were put with other keys or values
        than the rest. Raises `KeyError` for a sequence that is not listed.
        """
        self._edit(sequence_id, {"name": name})

    def pause_sequence(self, sequence_id: str) -> None:
        """Pause a listed sequence, with the same effects and errors as `rename_sequence`."""
        self._edit(sequence_id, {"is_paused": True})

    def remove_sequence(self, sequence_id: str) -> None:
        """Remove a sequence from the list for good, and leave its enrollments as they are."""
        with self._store.settled():
            self._sequences.remove(sequence_id)

    def upgrade_sequence(self, sequence_id: str) -> str:
        """Replace a listed sequence with a new version of the same name; return the new one's id.

        The live enrollments are canceled, and the same people enrolled in the new sequence, all in
        one step. Raises `KeyError` for a sequence that is not listed.
        """
        with self._store.settled():
            old = self._sequences.listed[sequence_id]
            now = self._moments(1)
            # As Unify does it: no enrollment moves; each live one is canceled and created anew.
            rng = dice("upgrade", sequence_id, self._store.commits)
            new = {**old.nested, "id": uuid(rng), "is_paused": False}
            keys = self._store.view(Query(sequence_id=sequence_id)).keys
            rows = [self._store.rows[name] for _, name in keys]
            changed = upgraded([row.document() for row in rows], new, stamp(now), rng)
            self._sequences.add(self._entities.cell("sequence", new), old, now)
            self._commit([self._row(document) for document in changed], now)
        return str(new["id"])

    def edit_any_sequence(self, *, seed: int) -> None:
        """Rename, pause or resume a random sequence; without a sequence, do nothing."""
        with self._store.settled():
            if listed := self._sequences.oldest_first():
                rng = dice("sequences", seed, self._store.commits)
                one = pick(listed, rng)
                toggled = {"is_paused": not one.nested["is_paused"]}
                self._edit(one.id, pick(({"name": new_name(rng)}, toggled), rng))

    def _edit(self, sequence_id: str, values: Document) -> None:
        with self._store.settled():
            if sequence_id not in self._sequences.listed:
                raise KeyError(sequence_id)
            # Whether renaming moves the `updated_at` of enrollments is not documented. Here it does
            # not, which is the harder case: a client that only reads by `updated_after` never sees
            # the new name.
            cells = self._cells("sequence", sequence_id)
            self._commit([], self._moments(1), renames=dict.fromkeys(cells, values))

    def _cells(self, kind: str, entity_id: str) -> set[Shared]:
        listed = self._sequences.listed.get(entity_id)
        cells = {self._entities.known(kind, entity_id), listed and listed.cell}
        return {cell for cell in cells if cell}

    def _moments(self, count: int) -> int:
        """Return now, in microseconds, once `count` of them have passed since the last change.

        No change is in the server's future, and each version is newer than the one before.
        """
        self.clock.reach(EPOCH + timedelta(microseconds=self._last_change + count))
        self._last_change = micros(self.clock.now())
        return self._last_change

    def _sample(self, rng: Random) -> Document | None:
        """Return a random row that can be changed, or None if the one picked cannot."""
        keys = self._store.view().keys
        if not keys:
            return None
        row = self._store.rows[pick(keys, rng)[1]]
        is_free = row.is_regular and not self._store.is_awaited(row.id)
        return row.document() if is_free else None

    def _row(self, document: Document) -> Row:
        now = micros(self.clock.now())
        name = document.get("id")
        old = self._store.rows.get(name) if isinstance(name, str) else None
        return self._entities.row(
            document, otherwise=(old.created, old.updated) if old else (now, now)
        )

    def _commit(
        self,
        rows: list[Row],
        made: int,
        visible_at: datetime | None = None,
        renames: Mapping[Shared, Document] | None = None,
    ) -> None:
        visible = micros(visible_at or self.clock.now())
        self._store.commit(rows, list((renames or {}).items()), made, visible)

    def _became_visible(self, commit: Commit) -> None:
        self._sequences.see(commit.rows)
        for cell, _ in commit.renames:
            self._sequences.edit(cell, commit.made)

    def _rows_of(self, listing: str) -> Mapping[str, Row | Sequence]:
        return self._store.rows if listing == "enrollments" else self._sequences.listed

    def _view(self, query: Query) -> View[Any]:
        if query.listing == "enrollments":
            return self._store.view(query)
        return View(query.position, lambda _: True, self._sequences.listed.values())
