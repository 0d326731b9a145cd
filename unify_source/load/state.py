"""What one load remembers for the next, besides the cursor. Pure: a state dict in, a new one out.

- the *tail*: digests of the rows within the lookback of the newest one. The next load reads them
  again, to find what became visible late, and need not write again those that did not change.
- what to *ask again* by id: rows in quarantine, and rows that came in two versions in one load (of
  the older one, replies may have been written that the newer no longer has).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.extract.window import Window
from unify_source.flatten.row_by_row import Unreadable
from unify_source.resources import CURSOR, INSTANT, KEY, TEXT
from unify_source.times import EPOCH, kept_instant, rfc3339

TAIL_LIMIT = 2_000
MOST_TAILS = 4
ASK_AGAIN_LIMIT = 1_000

State = dict[str, Any]
Known = dict[str, list[str]]
"""id -> the `updated_at` that stands in the warehouse, and the digest of the row, "" if unsure."""


class Tail:
    """Tells rows that the last load wrote from new ones, by id and content.

    Each cursor has a tail of its own. A row that is older than any of them knows is not written;
    one that is written is no longer known by its content in those of the others.
    """

    def __init__(self, tails: dict[str, Known], cursor: str | None, lookback: timedelta) -> None:
        self._cursor = cursor
        self._known = tails.get(cursor, {}) if cursor else {}
        self._others = {name: known for name, known in tails.items() if name != cursor}
        self._written_at = _newest_of([self._known, *self._others.values()])
        self._lookback = lookback
        newest = max((at for at, _ in self._known.values()), default=None)
        self._newest = kept_instant(newest) if newest else None
        self._rows: pa.Table | None = None
        self._written: list[pa.Table] = []
        self._counted: tuple[int, dict[str, datetime]] | None = None

    def unseen(self, rows: pa.Table) -> pa.Table:
        """Return the rows without those that stand in the warehouse as they are, or newer."""
        if not len(rows):
            return rows
        self._remember(rows)
        if self._written_at:
            rows = self._without_known(rows)
        self._written.append(rows.select([KEY, CURSOR]))
        self._counted = None
        return rows

    def _without_known(self, rows: pa.Table) -> pa.Table:
        again = pc.is_in(rows[KEY], value_set=pa.array(list(self._written_at), TEXT))
        mask = again.to_pylist()
        for index in pc.indices_nonzero(again).to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            older = rfc3339(row[CURSOR]) < self._written_at[row[KEY]]
            _, digest = self._known.get(row[KEY], ("", ""))
            mask[index] = older or _digest(row) == digest
        return rows.filter(pc.invert(pa.array(mask))) if any(mask) else rows

    def state(self) -> dict[str, Known]:
        """Return the tails for the next load, the cursor's own last."""
        tails = dict(self._others)
        if written := self._written_again():
            tails = {name: {**known, **_among(written, known)} for name, known in tails.items()}
        if self._cursor and (own := self._own()):
            tails[self._cursor] = own
        return dict(list(tails.items())[-MOST_TAILS:])

    def _own(self) -> Known:
        """Return the cursor's tail; a long one is forgotten, and just read again."""
        if self._rows is None or self._newest is None:
            return self._known
        since = rfc3339(self._newest - self._lookback)
        kept = {key: entry for key, entry in self._known.items() if entry[0] >= since}
        if len(self._rows) + len(kept.keys() - set(self._rows[KEY].to_pylist())) > TAIL_LIMIT:
            return {}
        for row in sorted(self._recent(self._rows).to_pylist(), key=lambda row: row[CURSOR]):
            key, at = row[KEY], rfc3339(row[CURSOR])
            stands = self._written_at.get(key, at)
            kept[key] = [at, _digest(row)] if at >= stands else self._known.get(key, [stands, ""])
        return {key: entry for key, entry in kept.items() if key not in self.in_two_versions()}

    def _written_again(self) -> dict[str, str]:
        """Return what was written of the rows that other tails know, and how new it is by now."""
        known = pa.array({key for other in self._others.values() for key in other}, TEXT)
        found: dict[str, str] = {}
        for rows in self._written if len(known) else ():
            again = rows.filter(pc.is_in(rows[KEY], value_set=known))
            for row in again.to_pylist():
                at = max(rfc3339(row[CURSOR]), self._written_at[row[KEY]])
                found[row[KEY]] = max(at, found.get(row[KEY], at))
        return found

    @property
    def enrollments(self) -> int:
        """How many enrollments were written, each counted once."""
        return self._count()[0]

    def in_two_versions(self) -> dict[str, datetime]:
        """Return the ids that were written with more than one `updated_at`, and the older one."""
        return self._count()[1]

    def _count(self) -> tuple[int, dict[str, datetime]]:
        if self._counted is None:
            self._counted = _keys_and_doubtful(self._written)
        return self._counted

    def _remember(self, rows: pa.Table) -> None:
        newest = pc.max(rows[CURSOR]).as_py()
        self._newest = max(filter(None, [self._newest, newest]))
        kept = [self._recent(table) for table in (self._rows, rows) if table is not None]
        self._rows = pa.concat_tables(kept, promote_options="permissive").slice(0, TAIL_LIMIT + 1)

    def _recent(self, rows: pa.Table) -> pa.Table:
        since = pa.scalar(self._newest - self._lookback, INSTANT)  # type: ignore[operator]
        return rows.filter(pc.greater_equal(rows[CURSOR], since))


def _newest_of(tails: Iterable[Known]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for known in tails:
        for key, (at, _) in known.items():
            newest[key] = max(at, newest.get(key, at))
    return newest


def _among(written: dict[str, str], known: Known) -> Known:
    return {key: [at, ""] for key, at in written.items() if key in known}


class AskAgain:
    """Keeps which enrollments the next run asks for by id, and from which instant on it reads.

    Up to `ASK_AGAIN_LIMIT` are asked for one by one, by the first load of a run that `asks`. For
    those beyond, the list is read again from the oldest on: single requests would take too long. A
    run that `rereads` notes with each load how far that got; what it read in vain, the next one
    reads again.
    """

    def __init__(self, state: State, *, asks: bool, rereads: bool) -> None:
        self._before: dict[str, str] = state.get("ask_again", {})
        self._next: dict[str, str] = dict(self._before)
        self._asks = asks
        self._rereads = rereads
        self._reread_from = _instant(state.get("reread_from"))
        self._is_known_whole = self._reread_from is None
        self._left_out: list[datetime | None] = []

    @property
    def ids(self) -> list[str]:
        """The enrollments to ask for by id."""
        asked = self._before.items() if self._asks else ()
        return [key for key, digest in asked if not digest.startswith("#")]

    def begin(self, start: datetime | None) -> datetime | None:
        """Return where a load begins to read: at `start`, or earlier to read rows again."""
        if not (self._asks and self._rereads and start and self._reread_from):
            return start
        if self._reread_from >= start:
            # The last run read all of it again; what changed meanwhile is released by this load.
            self._reread_from = None
            return start
        return self._reread_from

    def news(self, rows: Iterable[Unreadable]) -> list[Unreadable]:
        """Return those that are not in quarantine as they stand, and keep them all in mind."""
        fresh = []
        for row in rows:
            digest = ("" if row.id else "#") + _digest(row.raw)
            if self._before.get(row.key) != digest:
                fresh.append(row)
            self._keep(row.key, digest, row.updated_at)
        return fresh

    def released(self, rows: pa.Table) -> list[str]:
        """Return the ids that leave the quarantine, now that these rows were read as promised."""
        if not self._is_known_whole:
            keys = rows[KEY].to_pylist()
        elif self._before:
            before = pa.array(list(self._before), TEXT)
            keys = rows[KEY].filter(pc.is_in(rows[KEY], value_set=before)).to_pylist()
        else:
            return []
        return self.gone(keys)

    def gone(self, ids: Iterable[str]) -> list[str]:
        """Forget these ids: they were read, or the API no longer has them."""
        keys = list(ids)
        for key in keys:
            self._next.pop(key, None)
        return keys

    def state(self, in_two_versions: Mapping[str, datetime], covered: Window) -> State:
        """Return what the next load asks again, after one that read all of `covered`."""
        for key, updated_at in in_two_versions.items():
            self._keep(key, "", updated_at)
        since = self._reread_from
        if since and self._rereads and (covered.after is None or covered.after <= since):
            since = covered.before
        unknown = covered.after or EPOCH
        left_out = [updated_at or unknown for updated_at in self._left_out]
        since = min([*left_out, *([since] if since else [])], default=None)
        kept: State = {"ask_again": self._next} if self._next else {}
        return {**kept, "reread_from": since.isoformat()} if since else kept

    def _keep(self, key: str, digest: str, updated_at: datetime | None) -> None:
        if key in self._next or len(self._next) < ASK_AGAIN_LIMIT:
            self._next[key] = digest
        else:
            self._left_out.append(updated_at)


def _instant(text: str | None) -> datetime | None:
    return kept_instant(text) if text else None


def _keys_and_doubtful(written: list[pa.Table]) -> tuple[int, dict[str, datetime]]:
    if not written:
        return 0, {}
    rows = pa.concat_tables(written)
    keys = int(pc.count_distinct(rows[KEY]).as_py())
    if keys == len(rows):
        return keys, {}
    spans = rows.group_by(KEY).aggregate([(CURSOR, "min"), (CURSOR, "max")])
    spans = spans.filter(pc.not_equal(spans[f"{CURSOR}_min"], spans[f"{CURSOR}_max"]))
    older = zip(spans[KEY].to_pylist(), spans[f"{CURSOR}_min"].to_pylist(), strict=True)
    return keys, dict(sorted(older))


def _digest(content: Any) -> str:
    text = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=8).hexdigest()
