"""Casts a column of RFC 3339 texts to instants, with the results of `parse_instant`. Pure."""

from __future__ import annotations

from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import INSTANT
from unify_source.common.times import parse_instant

_SHORTEST = len("2026-01-31T08:00:00Z")
_WITH_OFFSET = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
# Arrow's microseconds reach to the year 294,247. Sentinels such as 9999-12-31T23:59:59-05:00 are
# year 10000 in UTC, which fails only later, on the way into Python or a database.
_FIRST = pa.scalar(datetime(1, 1, 1, tzinfo=timezone.utc), INSTANT)
_LAST = pa.scalar(datetime(9999, 12, 31, 23, 59, 59, 999_999, timezone.utc), INSTANT)


def instants(texts: pa.Array) -> pa.Array:
    """Read texts as instants in UTC, cut to microseconds; no text affects another's result.

    Raises ArrowInvalid if one is not RFC 3339, or is outside the years 1 to 9999, which Python and
    most databases cannot store.
    """
    try:
        cast = pc.cast(texts, INSTANT)
    except pa.ArrowInvalid:
        # Arrow accepts no lower-case letters, leap seconds or nanoseconds.
        return _one_by_one(texts)
    if not _are_rfc3339(texts):
        return _one_by_one(texts)
    bounds = pc.min_max(cast)
    if pc.less(bounds["min"], _FIRST).as_py() or pc.greater(bounds["max"], _LAST).as_py():
        raise pa.ArrowInvalid("a year outside 1 to 9999")
    return cast


def _are_rfc3339(texts: pa.Array) -> bool:
    """Tell whether texts that Arrow could cast are RFC 3339: it also accepts hours alone."""
    is_utc = pc.and_(pc.ends_with(texts, "Z"), pc.greater_equal(pc.binary_length(texts), _SHORTEST))
    return bool(
        pc.all(is_utc).as_py() or pc.all(pc.match_substring_regex(texts, _WITH_OFFSET)).as_py()
    )


def _one_by_one(texts: pa.Array) -> pa.Array:
    return pa.array([_instant(text) for text in texts.to_pylist()], INSTANT)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    instant = parse_instant(text)
    if instant is None:
        raise pa.ArrowInvalid(f"{text[:40]!r} is not an RFC 3339 time")
    return instant
