"""Counts rows that became visible late, after the cursor had passed them. Pure.

The lookback exists for such rows; one that is later still is missed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import CURSOR, INSTANT, KEY
from unify_source.common.times import rfc3339


@dataclass(frozen=True)
class Late:
    """How many rows were late, and how many seconds the latest was behind the cursor."""

    rows: int = 0
    seconds: int | None = None


class Lateness:
    """Measures a run that begins with a cursor and the tail that belongs to it.

    `known` are all rows that earlier runs have seen from `since` on. Older rows may have been seen
    by runs whose digests are gone.
    """

    def __init__(self, known: Mapping[str, list[str]], since: datetime, cursor: datetime) -> None:
        self._known = known
        self._since, self._cursor = since, cursor
        self._late: dict[str, datetime] = {}

    def note(self, rows: pa.Table, seen: Collection[str]) -> None:
        """Note the late ones among listed rows, except ids that were `seen` in any case.

        A row that was seen with an earlier `updated_at` is late too, because its change is.
        """
        if not len(rows):
            return
        behind = pc.and_(
            pc.less(rows[CURSOR], pa.scalar(self._cursor, INSTANT)),
            pc.greater_equal(rows[CURSOR], pa.scalar(self._since, INSTANT)),
        )
        for row in rows.select([KEY, CURSOR]).filter(behind).to_pylist():
            key, at = row[KEY], row[CURSOR]
            known, _ = self._known.get(key, ("", ""))
            # Text sorts as instants do where `rfc3339` wrote both.
            if key not in seen and rfc3339(at) > known:
                self._late[key] = min(at, self._late.get(key, at))

    def measured(self) -> Late:
        """Return the late rows noted so far."""
        if not self._late:
            return Late()
        behind = self._cursor - min(self._late.values())
        return Late(len(self._late), ceil(behind.total_seconds()))
