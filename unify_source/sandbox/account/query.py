"""The query of a list request, and its cursors."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from unify_source.sandbox.account.index import Key, Listed
from unify_source.sandbox.invent.rows import Row

ORDERS = ("updated", "updated_desc", "created", "id")
CURSORS = ("keyset", "offset")
FOREVER = 2**63

_DIGEST = 9


@dataclass(frozen=True)
class Query:
    """One list request. Bounds in microseconds, both inclusive; empty filters match everything.

    It begins `after` a row's key, or after a number of rows if `paging` is "offset".
    """

    listing: str = "enrollments"
    order: str = "updated"
    paging: str = "keyset"
    sequence_id: str = ""
    person_id: str = ""
    mailbox_id: str = ""
    enrolled_by_play_id: str = ""
    status: frozenset[str] = frozenset()
    updated_after: int | None = None
    updated_before: int | None = None
    limit: int = 50
    after: Key | int | None = None

    @property
    def by_update(self) -> bool:
        """Whether rows are sorted by `updated_at`, up or down."""
        return self.order in ("updated", "updated_desc")

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and last instants of the query."""
        low, high = self.updated_after, self.updated_before
        return (-FOREVER if low is None else low, FOREVER if high is None else high)

    def selection(self) -> "Query":
        """Return what many pages share: also the bounds, unless the order itself applies them."""
        common = replace(self, paging="keyset", limit=1, after=None)
        if self.by_update:
            common = replace(common, order="updated", updated_after=None, updated_before=None)
        return common

    @property
    def position(self) -> Callable[[Listed], int]:
        """The position of a row in the order; equal positions are sorted by id."""
        if self.by_update:
            return attrgetter("updated")
        return attrgetter("created") if self.order == "created" else _nowhere

    def matches(self, row: Row) -> bool:
        """Tell whether a row matches the filters and bounds."""
        low, high = self.bounds
        return (
            low <= row.updated <= high
            and self.sequence_id in ("", row.sequence.id)
            and self.person_id in ("", row.person.id)
            and self.mailbox_id in ("", row.mailbox.id)
            and self.enrolled_by_play_id in ("", row.play.id)
            and (not self.status or row.status in self.status)
        )

    def next_cursor(self, keys: Sequence[Key]) -> str:
        """Return the opaque cursor after a page of these keys, valid for this query only."""
        if self.paging == "keyset":
            return self._cursor(keys[-1])
        return self._cursor((self.after if isinstance(self.after, int) else 0) + len(keys))

    def _cursor(self, after: Key | int) -> str:
        position = json.dumps(after).encode()
        return base64.urlsafe_b64encode(self._digest(position) + position).decode().rstrip("=")

    def behind(self, cursor: str) -> "Query | None":
        """Return this query from a cursor on, or None if the cursor is not one of its own."""
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            return None
        position = text[_DIGEST:]
        # A cursor belongs to its query. Nothing promises that a client may change filters between
        # pages, so that is refused here.
        if text[:_DIGEST] != self._digest(position):
            return None
        decoded = json.loads(position)
        after = tuple(decoded) if isinstance(decoded, list) else decoded
        # base64 has several encodings of a value; only the one that was returned counts.
        return replace(self, after=after) if self._cursor(after) == cursor else None

    def _digest(self, position: bytes) -> bytes:
        asked = [
            sorted(value) if isinstance(value := getattr(self, field.name), frozenset) else value
            for field in fields(self)
            if field.name != "after"
        ]
        return hashlib.sha256(json.dumps(asked).encode() + position).digest()[:_DIGEST]


def _nowhere(_row: Listed) -> int:
    return 0
