"""The tail: digests of the rows within the lookback of the newest row that a cursor has seen.

The next load reads these rows again, to catch what became visible late, but need not rewrite those
that did not change. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import CURSOR, INSTANT, KEY, TEXT
from unify_source.common.times import EPOCH, kept_instant, rfc3339
from unify_source.extract.window import Window

# dlt writes its state whole into the destination whenever it has changed: an entry takes some 90
# bytes there, before compression, and a burst may bring half a million rows.
TAIL_LIMIT = 2_000
# Every combination of filters has a cursor, and so a tail. A script that filters by one id after
# another would fill the state with tails that are never read again.
MOST_TAILS = 4
_AT_ONCE = 100

Known = dict[str, list[str]]
"""id -> the `updated_at` in the warehouse, and the digest of the row, "" where unsure."""


class Tail:
    """Tells new rows from those that an earlier load wrote, by id and content.

    Each cursor has its own tail. A row is not written if any tail knows a newer version; one that
    is written loses its digest in the other tails. Without `trusts_own`, rows that the cursor's own
    tail knows are rewritten.
    """

    def __init__(
        self,
        tails: Mapping[str, Known],
        cursor: str | None,
        lookback: timedelta,
        *,
        trusts_own: bool = True,
    ) -> None:
        self._cursor = cursor
        own = tails.get(cursor, {}) if cursor else {}
        # If the tables' cursors differ, one table was left out of a run or emptied: it lacks rows
        # that this tail knows, so they have to be rewritten.
        self._known = own if trusts_own else {}
        self._others = {name: known for name, known in tails.items() if name != cursor}
        self._in_warehouse = _newest_of([self._known, *self._others.values()])
        self._lookback = lookback
        newest = max((at for at, _ in self._known.values()), default=None)
        self._newest = kept_instant(newest) if newest else EPOCH
        self._recent: Known = {}
        self._overflows = False
        self._written: list[pa.Table] = []

    def unseen(self, rows: pa.Table) -> pa.Table:
        """Return the rows without those that the warehouse holds already, or in a newer version."""
        if not len(rows):
            return rows
        in_warehouse = pa.array(list(self._in_warehouse), TEXT)
        known = pc.indices_nonzero(pc.is_in(rows[KEY], value_set=in_warehouse)).to_pylist()
        recent = self._recent_in(rows)
        versions = _versions(rows, {*known, *recent})
        for index in recent:
            self._remember(*versions[index])
        seen = [index for index in known if self._has_seen(*versions[index])]
        if seen:
            is_seen = pc.is_in(pa.array(range(len(rows))), value_set=pa.array(seen))
            rows = rows.filter(pc.invert(is_seen))
        self._written.append(rows.select([KEY, CURSOR]))
        return rows

    def _has_seen(self, key: str, at: str, digest: str) -> bool:
        _, known_digest = self._known.get(key, ("", ""))
        # Compared as text, which only `rfc3339` allows: it always writes six digits and Z. The
        # API's own texts have fractions of any length, and "…05Z" would sort after "…05.20Z".
        is_older = at < self._in_warehouse[key]
        return is_older or (known_digest != "" and digest == known_digest)

    def _recent_in(self, rows: pa.Table) -> list[int]:
        """Move on to the newest row, and return the rows within its lookback, up to the limit."""
        newest = pc.max(rows[CURSOR])
        if pc.greater(newest, pa.scalar(self._newest, INSTANT)).as_py():
            self._newest = newest.as_py()
            since = rfc3339(self._newest - self._lookback)
            self._recent = {key: entry for key, entry in self._recent.items() if entry[0] >= since}
        since_then = pa.scalar(self._newest - self._lookback, INSTANT)
        recent = pc.indices_nonzero(pc.greater_equal(rows[CURSOR], since_then))
        self._overflows = len(recent) + len(self._recent) > TAIL_LIMIT
        # A tail that lacks rows is safe: they are rewritten.
        indices: list[int] = recent[: TAIL_LIMIT if self._overflows else None].to_pylist()
        return indices

    def _remember(self, key: str, at: str, digest: str) -> None:
        known_at, _ = self._recent.get(key, ("", ""))
        if at >= known_at:
            self._recent[key] = [at, digest]

    def state(self, in_two_versions: Mapping[str, datetime]) -> dict[str, Known]:
        """Return the tails for the next load, the cursor's own last."""
        tails = dict(self._others)
        if written := self._written_again():
            # Their digests describe versions that this load has just replaced.
            tails = {name: {**known, **_among(written, known)} for name, known in tails.items()}
        if self._cursor and (own := self._own(in_two_versions)):
            tails[self._cursor] = own
        # This run's tail has moved to the end, so the least recently used one is dropped.
        return dict(list(tails.items())[-MOST_TAILS:])

    def _own(self, in_two_versions: Mapping[str, datetime]) -> Known:
        """Return the cursor's tail; one that is too long is dropped, and its rows are rewritten."""
        if not self._recent:
            return self._known
        since = rfc3339(self._newest - self._lookback)
        kept = {key: entry for key, entry in self._known.items() if entry[0] >= since}
        if self._overflows or len({*self._recent, *kept}) > TAIL_LIMIT:
            return {}
        for key, (at, digest) in self._recent.items():
            # A server with lagging replicas may show an older version than before. The one in the
            # warehouse stays known.
            held = self._in_warehouse.get(key, at)
            kept[key] = [at, digest] if at >= held else self._known.get(key, [held, ""])
        # Rows in two versions are asked for again. With a digest the answer would look known, and
        # replies that only the older version had would stay.
        return {key: entry for key, entry in kept.items() if key not in in_two_versions}

    def _written_again(self) -> dict[str, str]:
        """Return the rows of other tails that were written, with their newest `updated_at`."""
        known = pa.array({key for other in self._others.values() for key in other}, TEXT)
        newest: dict[str, str] = {}
        for rows in self._written if len(known) else ():
            again = rows.filter(pc.is_in(rows[KEY], value_set=known))
            for row in again.to_pylist():
                at = max(rfc3339(row[CURSOR]), self._in_warehouse[row[KEY]])
                newest[row[KEY]] = max(at, newest.get(row[KEY], at))
        return newest

    def count(self, counted: Collection[str] = ()) -> tuple[int, dict[str, datetime]]:
        """Return how many rows were written, each key once, and the keys in two versions.

        Those that were written with more than one `updated_at` come with the older one. Keys that
        were `counted` before do not count.
        """
        if not self._written:
            return 0, {}
        # A row comes twice where two slices share its instant, and where a cursor hides an offset
        # and rows moved between two pages.
        rows = pa.concat_tables(self._written)
        keys, times = pc.value_counts(rows[KEY]).flatten()
        again = pc.is_in(keys, value_set=pa.array(list(counted), TEXT))
        new = len(keys) - pc.sum(again, min_count=0).as_py()
        if len(keys) == len(rows):
            return new, {}
        repeated = rows.filter(pc.is_in(rows[KEY], value_set=keys.filter(pc.greater(times, 1))))
        spans = repeated.group_by(KEY).aggregate([(CURSOR, "min"), (CURSOR, "max")])
        spans = spans.filter(pc.not_equal(spans[f"{CURSOR}_min"], spans[f"{CURSOR}_max"]))
        older = zip(spans[KEY].to_pylist(), spans[f"{CURSOR}_min"].to_pylist(), strict=True)
        return new, dict(sorted(older))

    def beyond(self, covered: Window) -> set[str]:
        """Return the keys of the rows that were written, but that a later load reads as well."""
        beyond: set[str] = set()
        for rows in self._written:
            outside = pc.greater_equal(rows[CURSOR], pa.scalar(covered.before, INSTANT))
            if covered.after:
                earlier = pc.less_equal(rows[CURSOR], pa.scalar(covered.after, INSTANT))
                outside = pc.or_(outside, earlier)
            beyond.update(rows[KEY].filter(outside).to_pylist())
        return beyond


def _newest_of(tails: Iterable[Known]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for known in tails:
        for key, (at, _) in known.items():
            newest[key] = max(at, newest.get(key, at))
    return newest


def _among(written: Mapping[str, str], known: Known) -> Known:
    return {key: [at, ""] for key, at in written.items() if key in known}


def _versions(rows: pa.Table, which: Collection[int]) -> dict[int, tuple[str, str, str]]:
    """Return the key, the `updated_at` and the digest of some rows, by their index."""
    indices = pa.array(sorted(which), pa.int64())
    some = rows.take(indices)
    times = map(rfc3339, some[CURSOR].to_pylist())
    versions = zip(some[KEY].to_pylist(), times, _digests(some), strict=True)
    return dict(zip(indices.to_pylist(), versions, strict=True))


def _digests(rows: pa.Table) -> Iterator[str]:
    # A thousand rows take five megabytes as Python's objects.
    for batch in with_times_as_numbers(rows).to_batches(max_chunksize=_AT_ONCE):
        yield from map(digest_of, batch.to_pylist())


def with_times_as_numbers(rows: pa.Table) -> pa.Table:
    """Return nested rows with times as numbers, of which Python makes objects ten times as fast."""
    return rows.cast(pa.schema([(item.name, _as_numbers(item.type)) for item in rows.schema]))


def _as_numbers(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(item.name, _as_numbers(item.type)) for item in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_numbers(kind.value_type))
    return pa.int64() if kind == INSTANT else kind


def digest_of(content: Any) -> str:
    """Return a digest that is equal for equal content, whatever the order of its keys."""
    # 64 bits are plenty: a digest is only ever compared with an earlier one of the same id.
    text = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=8).hexdigest()
