"""The rows that the next run asks for by id: those in quarantine or read in two versions. Pure.

The older of two versions may have written replies that the newer one no longer has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import KEY, TEXT
from unify_source.common.times import EPOCH, kept_instant, parse_instant, rfc3339
from unify_source.extract.window import Window
from unify_source.flatten.decode.unreadable import Unreadable
from unify_source.load.state import State

# A page has a hundred rows, a request by id has one: beyond this, reading the list again is
# cheaper. Each row also takes space in the state.
ASK_AGAIN_LIMIT = 1_000
ASK_AGAIN_KEYS = ("ask_again", "reread_from")
"""Its keys in the state."""


class AskAgain:
    """Keeps the rows that the next run asks for by id, and the instant from which it reads again.

    Up to `ASK_AGAIN_LIMIT` rows are asked for one by one, by the first load of a run that `asks`.
    For more, the list is read again from the oldest on, because single requests would take too
    long. A run that `rereads` stores its progress with each load; the next run reads rows again
    that are still unreadable.
    """

    def __init__(self, state: State, *, asks: bool, rereads: bool) -> None:
        self._before: dict[str, str] = dict(state.get("ask_again", {}))
        self._next: dict[str, str] = dict(self._before)
        self._asks = asks
        self._rereads = rereads
        self._reread_from = _instant(state.get("reread_from"))
        self._is_known_whole = self._reread_from is None
        self._left_out: list[datetime | None] = []
        self._without_id: set[str] = set()

    @property
    def ids(self) -> list[str]:
        """The ids to ask for."""
        asked = self._before.items() if self._asks else ()
        # "#" marks a row without a usable id, kept under a hash of its text, which the API does not
        # know; after it follows where in the list the row was.
        return [key for key, digest in asked if not digest.startswith("#")]

    def begin(self, start: datetime | None) -> datetime | None:
        """Return where a load begins to read: at `start`, or earlier to read rows again."""
        if not (self._asks and self._rereads and start and self._reread_from):
            return start
        if self._reread_from >= start:
            # The last run read all of it again; this load releases the rows that changed meanwhile.
            self._reread_from = None
            return start
        return self._reread_from

    def news(self, rows: Iterable[Unreadable]) -> list[Unreadable]:
        """Return the rows that are not in quarantine in this version, and remember all of them."""
        fresh = []
        for row in rows:
            if row.id:
                kept = _digest(row.raw)
                is_known = self._before.get(row.key) == kept
            else:
                kept = "#" + (rfc3339(row.updated_at) if row.updated_at else "")
                is_known = row.key in self._before
                self._without_id.add(row.key)
            if not is_known:
                fresh.append(row)
            self._keep(row.key, kept, row.updated_at)
        return fresh

    def released(self, rows: pa.Table) -> list[str]:
        """Return the ids that leave the quarantine, now that these rows were read as promised."""
        if not self._is_known_whole:
            # More rows were unreadable than ids are kept, so any row may be one of them. Releasing
            # an id that is not in quarantine deletes nothing.
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
            # If the list still shows a row that is gone by its id, it is quarantined again.
            self._before.pop(key, None)
        return keys

    def vanished(self, covered: Window) -> list[str]:
        """Forget the rows without an id that were in a window, and were not when it was read again.

        What a row is now has another key: its id, or the hash of another text.
        """
        absent = self._before.keys() - self._without_id
        return self.gone(key for key in sorted(absent) if _was_in(covered, self._before[key]))

    def state(self, in_two_versions: Mapping[str, datetime], covered: Window) -> State:
        """Return the state for the next load, after one that read all of `covered`."""
        for key, updated_at in in_two_versions.items():
            # No row has an empty digest: if it comes back unreadable, it counts as new.
            self._keep(key, "", updated_at)
        for key in self._without_id:
            if self._next.get(key) == "#":
                after = rfc3339(covered.after) if covered.after else ""
                self._next[key] = f"#{after}/{rfc3339(covered.before)}"
        since = self._reread_from
        if since and self._rereads and (covered.after is None or covered.after <= since):
            since = covered.before
        # A row whose `updated_at` cannot be read may lie anywhere in the window.
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


def _was_in(window: Window, kept: str) -> bool:
    """Tell whether a row without an id lay in a window: at its instant, or where it was read."""
    if not kept.startswith("#"):
        return False
    after, slash, before = kept[1:].rpartition("/")
    if slash:
        return window.covers(Window(_instant(after), kept_instant(before)))
    instant = parse_instant(before)
    # Earlier versions did not keep where it was.
    return window.holds(instant) if instant else window.after is None


def _instant(text: str | None) -> datetime | None:
    return kept_instant(text) if text else None


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
