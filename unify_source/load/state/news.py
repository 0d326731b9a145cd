"""Rows that cannot have been in the warehouse before. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import CURSOR, INSTANT
from unify_source.common.times import EPOCH, kept_instant, rfc3339
from unify_source.load.state import State


class News:
    """Tells which rows the warehouse cannot have held before, in any version.

    The first load began with empty tables, at a known instant of the server's clock. A row that was
    updated before then, but after the cursor, is read for the first time: a newer version would
    have a later `updated_at`. This saves the first loads a million tombstones for replies that
    never existed. `empty_at` is such an instant, None if the tables hold rows.
    """

    def __init__(self, state: State, empty_at: datetime | None, lookback: timedelta) -> None:
        first = state.get("empty_until")
        if first is None:
            # Not up to the window's end: a row that was updated within the lookback may become
            # visible late, after an older version of it was loaded. Tables that already hold rows
            # were filled before this key existed, so nothing is certain about those.
            first = rfc3339(empty_at - lookback if empty_at else EPOCH)
        self._empty_until: str = first
        self._loaded_until: str = state.get("loaded_until", rfc3339(EPOCH))
        self._newest = EPOCH

    def of(self, rows: pa.Table, *, is_listed: bool) -> pa.Array:
        """Return for each row whether it is new; a row that was asked for by id is not."""
        if not is_listed or not len(rows):
            return pa.repeat(pa.scalar(value=False), len(rows))
        self._newest = max(self._newest, pc.max(rows[CURSOR]).as_py())
        # A row within the loaded range may be read a second time, because of the lookback or by a
        # run that resumes: it may have lost a reply that the warehouse still holds.
        after = pc.greater(rows[CURSOR], _scalar(self._loaded_until))
        return pc.and_(after, pc.less_equal(rows[CURSOR], _scalar(self._empty_until)))

    def remember(self, state: State, covered_until: datetime) -> None:
        """Store how far the warehouse has been loaded, as long as that matters."""
        state["empty_until"] = self._empty_until
        newest = min(self._newest, covered_until)
        loaded_until = max(self._loaded_until, rfc3339(newest))
        # Capped, so that it stops moving once the first load is over: state that changes with every
        # run would make dlt load a package even where no row has changed.
        state["loaded_until"] = min(loaded_until, self._empty_until)


def _scalar(instant: str) -> pa.Scalar:
    return pa.scalar(kept_instant(instant), INSTANT)
