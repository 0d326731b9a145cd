"""Decodes pages in the background, and joins batches until they are worth loading."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import CURSOR, INSTANT, Resource
from unify_source.common.settings.limits import USUAL, Limits, wide_bytes
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.decode.limits import JOINED_BYTES, JOINED_ROWS, JOINED_WIDE_BYTES

JOINED_SECONDS = 2.0


def decoded(
    resource: Resource, reading: Iterable[list[bytes]], limits: Limits = USUAL
) -> Iterator[Batch]:
    """Decode one batch while the one before it is written: Arrow releases the GIL."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Batch] | None = None
        for bodies in reading:
            # Only one ahead: each further one would keep its pages and its table in memory.
            upcoming = pool.submit(decode, resource, bodies, limits)
            if waiting:
                yield waiting.result()
            waiting = upcoming
        if waiting:
            yield waiting.result()


def joined(batches: Iterable[Batch], times: int = 1) -> Iterator[Batch]:
    """Join batches up to so many times the limits: dlt takes as long for a few rows as for many.

    A single batch may exceed the limits.
    """
    held: list[Batch] = []
    since = time.monotonic()
    for batch in batches:
        if held and _is_enough([*held, batch], times):
            yield as_one(held)
            held = []
        since = since if held else time.monotonic()
        held.append(batch)
        if time.monotonic() > since + JOINED_SECONDS:
            yield as_one(held)
            held = []
    if held:
        yield as_one(held)


def up_to(end: datetime, batch: Batch, *, is_open: bool = False) -> Batch:
    """Return a batch without rows that were updated after an instant, or at it if it `is_open`."""
    compare = pc.less if is_open else pc.less_equal
    inside = compare(batch.rows[CURSOR], pa.scalar(end, INSTANT))
    if pc.all(inside).as_py():
        return batch
    return Batch(batch.rows.filter(inside), batch.unreadable)


def _is_enough(batches: list[Batch], times: int) -> bool:
    rows, size = sum(len(batch.rows) for batch in batches), sum(batch.size for batch in batches)
    is_wide = wide_bytes(size, rows) > times * JOINED_WIDE_BYTES
    return is_wide or rows > times * JOINED_ROWS or size > times * JOINED_BYTES


def as_one(batches: Sequence[Batch]) -> Batch:
    """Concatenate several batches into one."""
    rows = pa.concat_tables([batch.rows for batch in batches])
    return Batch(rows, [row for batch in batches for row in batch.unreadable])
