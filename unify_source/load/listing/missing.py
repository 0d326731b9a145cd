"""Tells which rows of a list without a time filter are gone, and marks them."""

from __future__ import annotations

from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.dlt_seam import capabilities, running_pipeline
from unify_source.common.resources import INSTANT, KEY, KNOWN_AS_OF, MISSING_SINCE, TEXT
from unify_source.common.settings import Settings
from unify_source.destinations.stored.contents import stored_keys, stored_rows
from unify_source.extract.full_list import FullList
from unify_source.flatten.decode.decode import Batch
from unify_source.flatten.tables import filled


class Missing:
    """Compares a list with the rows that its table holds, and asks by id for those in doubt."""

    def __init__(self, full_list: FullList, settings: Settings) -> None:
        self._list, self._account = full_list, settings.account
        self._table = full_list.resource.parts[0].table
        self._asked: set[str] = set()

    @cached_property
    def _stored_keys(self) -> pa.Array:
        # A source that is only iterated has no destination, and nothing is stored.
        is_loaded = capabilities() is not None
        keys = stored_keys(running_pipeline(), self._table, self._account) if is_loaded else []
        return pa.array(keys, TEXT)

    def _unlisted(self, listed: Batch) -> pa.Table:
        keys = listed.keys
        # Reading the rows takes twenty times as long as reading their keys. Rows that are marked
        # stay in the table: from the first one on, both are read.
        is_any = not keys.issuperset(self._stored_keys.to_pylist())
        stored = stored_rows(running_pipeline(), self._table, self._account) if is_any else None
        if stored is None:
            return self._table.schema().empty_table()
        unmarked = stored.filter(pc.is_null(stored[MISSING_SINCE]))
        return _without(unmarked, pa.array(sorted(keys), TEXT))

    def gone(self, listed: Batch) -> tuple[pa.Table, bool]:
        """Return the stored rows that are gone from the list, marked; and whether all are known."""
        unlisted = self._unlisted(listed)
        ids = unlisted[KEY].to_pylist()
        rows = self._list.by_id(ids)
        gone = unlisted.filter(pa.array([rows[key] is None for key in ids], pa.bool_()))
        since = pa.repeat(pa.scalar(self._list.read_at, INSTANT), len(gone))
        marked = filled(filled(gone, MISSING_SINCE, since), KNOWN_AS_OF, since)
        return marked, b"" not in rows.values()

    def fill_in(self, rows: pa.Table, listed: Batch | None) -> pa.Table:
        """Return the rows nested in another list that are neither in this list nor in the table.

        Those that the API does not have by id either are marked as missing. Without the list it is
        unknown what is missing.
        """
        unknown = rows if listed is None else _without(rows, listed.rows[KEY])
        if not len(unknown):
            return unknown
        unknown = _without(_without(unknown, self._stored_keys), pa.array(self._asked, TEXT))
        ids = unknown[KEY].to_pylist()
        # Each is asked for once a run.
        self._asked.update(ids)
        # The list shows those that cannot be read: they are not missing.
        odd = {row.key for row in listed.unreadable} if listed else set()
        by_id = self._list.by_id(key for key in ids if key not in odd) if listed else {}
        since = [self._list.read_at if by_id.get(key, b"") is None else None for key in ids]
        return filled(unknown, MISSING_SINCE, pa.array(since, INSTANT))


def _without(rows: pa.Table, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=keys)))
