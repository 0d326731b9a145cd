"""Rows that break the API's promises, kept whole, and the table that they stand in. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from unify_source.flatten.json_text import parsed
from unify_source.flatten.pages import RawRow, top_level
from unify_source.flatten.tables import empty, tombstones
from unify_source.resources import CURSOR, DELETED, INSTANT, KEY, QUARANTINE
from unify_source.times import parse_instant


@dataclass(frozen=True)
class Unreadable:
    """A row that its table cannot hold, whole: `raw` is its JSON text, as the API sent it."""

    id: str | None
    updated_at: datetime | None
    reason: str
    raw: str

    @classmethod
    def of(cls, row: RawRow, reason: str) -> Unreadable:
        """Set a row aside, with what is known of it."""
        own = _known(row)
        key, changed = own.get(KEY), own.get(CURSOR)
        return cls(
            id=key if isinstance(key, str) and key and _is_unicode(key) else None,
            updated_at=parse_instant(changed) if isinstance(changed, str) else None,
            reason=reason,
            raw=row.text.decode(errors="backslashreplace"),
        )

    @property
    def key(self) -> str:
        """The row's id, or a hash of `raw` where it has none."""
        return self.id or hashlib.sha256(self.raw.encode()).hexdigest()


def quarantined(rows: Iterable[Unreadable], seen_at: datetime) -> pa.Table:
    """Make the quarantine's rows: the id, the reason, and the row as it came."""
    rows = list(rows)
    columns = {
        KEY: [row.key for row in rows],
        "reason": [row.reason for row in rows],
        "raw": [row.raw for row in rows],
        "seen_at": [seen_at] * len(rows),
        DELETED: [None] * len(rows),
    }
    return pa.table(columns, schema=empty(QUARANTINE).schema)


def released(ids: pa.Array, seen_at: datetime) -> pa.Table:
    """Make rows that take others out of the quarantine."""
    times = pa.repeat(pa.scalar(seen_at, INSTANT), len(ids))
    return tombstones(QUARANTINE, {KEY: ids, "seen_at": times})


def _known(row: RawRow) -> dict[str, Any]:
    try:
        value = parsed(top_level(row).decode(errors="replace"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
