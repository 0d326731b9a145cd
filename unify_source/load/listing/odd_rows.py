"""Puts the rows of a list without a time filter that cannot be read into quarantine. Pure."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

import pyarrow as pa

from unify_source.common.resources import KEY
from unify_source.flatten.decode.decode import Batch
from unify_source.flatten.quarantine import quarantined
from unify_source.load.state import State
from unify_source.load.state.ask_again import ASK_AGAIN_LIMIT
from unify_source.load.state.tail import digest_of

_STATE_KEY = "listed"


def sifted(
    state: State, name: str, batch: Batch, read_at: datetime, *, writes_all: bool
) -> pa.Table:
    """Return the rows to write to the quarantine: new and changed ones, and those that leave it.

    The list is read whole by every run, so a row leaves once it can be read or is gone. The
    quarantine's `state` keeps their ids and digests, up to `ASK_AGAIN_LIMIT` for each list: rows
    beyond that are written by each run.
    """
    lists = state.setdefault(_STATE_KEY, {})
    before: dict[str, str] = lists.pop(name, {})
    now = {row.key: digest_of(row.raw) for row in batch.unreadable}
    if now:
        lists[name] = dict(islice(now.items(), ASK_AGAIN_LIMIT))
    if not lists:
        del state[_STATE_KEY]
    new = [row for row in batch.unreadable if writes_all or before.get(row.key) != now[row.key]]
    released = before.keys() - now.keys()
    if len(before) == ASK_AGAIN_LIMIT:
        # Any row that is readable now may be one whose id was not kept.
        released |= set(batch.rows[KEY].to_pylist())
    return quarantined(new, read_at, sorted(released))
