"""What one load remembers for the next, besides the cursor, in one object.

Pure: it changes a state dict, whose keys are missing when they are empty:

- `tails`: by cursor, the digests of the newest rows (see `tail`)
- `tails_since`: by cursor, the instant from which its tail knows every row that was seen
- `ask_again`, `reread_from`: rows to ask for by id, or to read again (see `ask_again`)
- `empty_until`, `loaded_until`: until when rows are certainly new (see `news`)
- `wide_bytes`: the bytes that made rows wide, of all rows ever written
- `backfills`, `unfinished`: see `runs`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from unify_source.common.settings.limits import wide_bytes
from unify_source.common.times import EPOCH, kept_instant, rfc3339
from unify_source.extract.window import Window
from unify_source.flatten.decode.decode import Batch
from unify_source.flatten.decode.unreadable import Unreadable
from unify_source.load.state import State
from unify_source.load.state.ask_again import ASK_AGAIN_KEYS, AskAgain
from unify_source.load.state.late import Late, Lateness
from unify_source.load.state.news import News
from unify_source.load.state.tail import Tail

_WIDE_BYTES = "wide_bytes"


def stored_wide_bytes(state: State) -> int:
    """Return the bytes that made rows wide, of all rows ever written."""
    kept: int = state.get(_WIDE_BYTES, 0)
    return kept


def forget_known(state: State, ids: Iterable[str]) -> None:
    """Forget the digests of rows that are deleted: one that comes back has to look new."""
    for known in state.get("tails", {}).values():
        for key in ids:
            known.pop(key, None)


def forget_digests(state: State) -> None:
    """Forget the digests of all rows: each looks changed, whatever the last finished load wrote.

    The rows of a load that died may be stored by now, and their digests are not.
    """
    for tail in state.get("tails", {}).values():
        tail.update({key: [at, ""] for key, (at, _) in tail.items()})


@dataclass(frozen=True)
class Sifted:
    """What is left to write of a batch.

    `new` says for each row whether the warehouse can hold no version of it. `unreadable` rows go to
    the quarantine, and the ids in `released` leave it.
    """

    rows: pa.Table
    new: pa.Array
    unreadable: list[Unreadable] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (len(self.rows) or self.unreadable or self.released)


class Memory:
    """Sifts the rows of one load: which are new, known, or older than what the warehouse holds.

    `start` is where to begin to read the window: at its beginning, or earlier to read rows again.
    `ids` are the rows to ask for. `sift` takes every batch, and `end` stores what the next load
    needs once the window has been read. The tables whose rows die with others were empty at
    `empty_at`, unless that is None. The quarantine's ids are in the state of its own resource, so
    that both are emptied together. With `measured_from`, the cursor that the run begins with, late
    rows are counted.
    """

    def __init__(
        self,
        state: State,
        quarantine: State,
        cursor: str | None,
        lookback: timedelta,
        start: datetime | None,
        empty_at: datetime | None,
        *,
        asks: bool,
        rereads: bool,
        trusts_tail: bool,
        measured_from: datetime | None = None,
    ) -> None:
        self._state = state
        self._cursor, self._is_first = cursor, asks
        self._quarantine = quarantine
        self._lookback = lookback
        self._again = AskAgain(quarantine, asks=asks, rereads=rereads)
        self._tail = Tail(state.get("tails", {}), cursor, lookback, trusts_own=trusts_tail)
        self._news = News(state, empty_at, lookback)
        self._lateness = self._measuring(measured_from) if trusts_tail else None
        self.start, self.ids = self._again.begin(start), self._again.ids
        # Not by digest: rows in quarantine, and rows that came in two versions.
        self._seen = frozenset(self.ids)
        self.rows = self._wide_bytes = 0

    @property
    def late(self) -> Late | None:
        """Return the late rows, None if that is unknown."""
        return self._lateness.measured() if self._lateness else None

    def _measuring(self, cursor: datetime | None) -> Lateness | None:
        known = self._state.get("tails", {}).get(self._cursor, {})
        since = self._since()
        # The list is read again for rows whose ids were not kept: they would look late.
        if not (cursor and known and since) or "reread_from" in self._quarantine:
            return None
        return Lateness(known, since, cursor)

    def _since(self) -> datetime | None:
        since = self._state.get("tails_since", {}).get(self._cursor)
        return kept_instant(since) if since else None

    def sift(self, batch: Batch, *, is_listed: bool) -> Sifted:
        """Return what is left to write of a batch; `is_listed` unless it was asked for by id."""
        # The quarantine before the tail: a row may come back exactly as the tail knows it, and
        # would be filtered out without leaving the quarantine.
        unreadable = self._again.news(batch.unreadable)
        released = self._again.released(batch.rows)
        rows = self._tail.unseen(batch.rows)
        size = rows.nbytes + sum(len(row.raw) for row in unreadable)
        self._wide_bytes += wide_bytes(size, len(rows) + len(unreadable))
        if self._lateness and is_listed:
            self._lateness.note(rows, self._seen)
        return Sifted(rows, self._news.of(rows, is_listed=is_listed), unreadable, released)

    def carried(self, batch: Batch) -> Sifted:
        """Return all of a batch: rows that must be written again although they did not change."""
        unreadable = self._again.news(batch.unreadable)
        released = self._again.released(batch.rows)
        known = pa.repeat(pa.scalar(value=False), len(batch.rows))
        return Sifted(batch.rows, known, unreadable, released)

    def gone(self, ids: list[str]) -> list[str]:
        """Forget ids that the API no longer has; they leave the quarantine."""
        return self._again.gone(ids)

    def vanished(self, covered: Window) -> list[str]:
        """Forget the rows in quarantine without an id that `covered`, now read, no longer has."""
        return self._again.vanished(covered)

    def end(self, covered: Window, counted: set[str]) -> None:
        """Store what the next load needs, after all of `covered` has been read.

        `counted` are the keys that earlier loads of the run have counted beyond what they covered.
        """
        # Counted first: rows in two versions are asked for again, and must not count as known.
        self.rows, in_two_versions = self._tail.count(counted)
        counted |= self._tail.beyond(covered)
        for key in ASK_AGAIN_KEYS:
            self._quarantine.pop(key, None)
        self._quarantine.update(self._again.state(in_two_versions, covered))
        self._state.pop("tails", None)
        if tails := self._tail.state(in_two_versions):
            self._state["tails"] = tails
        self._keep_since(tails)
        if self._wide_bytes:
            self._state[_WIDE_BYTES] = stored_wide_bytes(self._state) + self._wide_bytes
        self._news.remember(self._state, covered.before)

    def _keep_since(self, tails: Mapping[str, Any]) -> None:
        kept = {**self._state.pop("tails_since", {})}
        if self._cursor and self._cursor in tails:
            # The loads of one run continue each other; another run may begin later than the last
            # one did, with a shorter lookback, or with a `start`.
            begun = self.start if self._is_first else self._since() or self.start
            newest = kept_instant(max(at for at, _ in tails[self._cursor].values()))
            kept[self._cursor] = rfc3339(max(begun or EPOCH, newest - self._lookback))
        if left := {name: since for name, since in kept.items() if name in tails}:
            self._state["tails_since"] = left
