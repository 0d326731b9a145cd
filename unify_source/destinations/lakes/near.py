"""Lets a merge read only the files of a Delta table that may hold its rows.

The library reads every file whose statistics do not exclude a match, and holds all of them at once:
2 GB for 2,000,000 rows, if a thousand change. Keys are random, so each file may hold any. But each
file has few instants of the last change. In a small table, finding these costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.dlt_seam import limit_delta_merges
from unify_source.common.resources import BY_NAME, INSTANT, KEY, TEXT
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.times import rfc3339

_SMALL_BYTES = 16 << 20
_MOST_SPANS = 50
# Other writers round the instants of a file's statistics to milliseconds.
_MARGIN = 1_000
_EARLIEST, _LATEST = -62_135_510_400_000_000, 253_402_214_400_000_000
"""A day after the first instant of a datetime, and a day before the last, in microseconds."""


def merge_near() -> None:
    """Limit merges to the instants of the rows that they replace, in this process from now on."""
    limit_delta_merges(_condition)


def _condition(opened: Any, schema: Any, rows: Callable[[], pa.Table]) -> str | None:
    newest = BY_NAME[schema["name"]].newest if schema["name"] in BY_NAME else ""
    keys = {name for name, column in schema["columns"].items() if column.get("primary_key")}
    stored = opened.to_pyarrow_dataset()
    # A table of another source, or one from 0.1.0.
    if KEY not in keys or keys - {KEY, ACCOUNT} or newest not in stored.schema.names:
        return None
    sizes = pa.table(opened.get_add_actions(flatten=True))["size_bytes"]
    if stored.schema.field(newest).type != INSTANT or (pc.sum(sizes).as_py() or 0) < _SMALL_BYTES:
        return None
    keys_of_rows = rows()[KEY].cast(TEXT).combine_chunks()
    # Read ahead, the scan would hold several files at once.
    replaced = stored.scanner(
        [newest],
        filter=pc.field(KEY).cast(TEXT).isin(keys_of_rows),
        batch_readahead=1,
        fragment_readahead=1,
    ).to_table()
    return near(f"target.{newest}", replaced[newest])


def near(column: str, instants: pa.ChunkedArray) -> str | None:
    """Return SQL that a column is null, or close to one of these instants.

    None if one of them is so far off that none close to it could be written.
    """
    at = sorted(pc.unique(instants.drop_null().cast(pa.int64())).to_pylist())
    if at and (at[0] < _EARLIEST or at[-1] > _LATEST):
        return None
    gaps = nlargest(_MOST_SPANS - 1, range(1, len(at)), key=lambda n: at[n] - at[n - 1])
    edges = [0, *sorted(gaps), len(at)] if at else []
    spans = [(at[first] - _MARGIN, at[end - 1] + _MARGIN) for first, end in pairwise(edges)]
    texts = [tuple(_text(at) for at in span) for span in spans]
    between = [f"({column} >= '{low}' AND {column} <= '{high}')" for low, high in texts]
    return "(" + " OR ".join([f"{column} IS NULL", *between]) + ")"


def _text(microseconds: int) -> str:
    return rfc3339(pa.scalar(microseconds, INSTANT).as_py())
