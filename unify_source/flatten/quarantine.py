"""Makes the quarantine's rows: unreadable ones, and those that delete others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import pyarrow as pa

from unify_source.common.resources import DELETED, INSTANT, KEY, QUARANTINE, TEXT
from unify_source.flatten.decode.unreadable import Unreadable
from unify_source.flatten.tables import empty, tombstones


def quarantined(
    rows: Iterable[Unreadable], seen_at: datetime, released: Sequence[str] = ()
) -> pa.Table:
    """Make the quarantine's rows: the id, the reason, and the row as the API sent it.

    Those with the `released` ids are marked deleted.
    """
    rows = list(rows)
    columns = {
        KEY: [row.key for row in rows],
        "reason": [row.reason for row in rows],
        "raw": [row.raw for row in rows],
        "seen_at": [seen_at] * len(rows),
        DELETED: [None] * len(rows),
    }
    held = pa.table(columns, schema=empty(QUARANTINE).schema)
    times = pa.repeat(pa.scalar(seen_at, INSTANT), len(released))
    gone = tombstones(QUARANTINE, {KEY: pa.array(released, TEXT), "seen_at": times})
    return pa.concat_tables([held, gone])
