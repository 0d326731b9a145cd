"""A list without a time filter: read whole once a run, written where it changed.

A row that is gone from the list stays in its table, with the time since when it is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.decode.decode import decode
from unify_source.errors import (
    ApiError,
    KeyRefused,
    RateLimited,
    RowUnavailable,
    ServerFailed,
    Unreachable,
)
from unify_source.extract.pagination import follow
from unify_source.flatten.names import Splitting
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.split import split
from unify_source.resources import AS_OF, INSTANT, KEY, MISSING_SINCE, TEXT, Resource, Table
from unify_source.settings import Settings

State = dict[str, Any]

# How long a list that is no list is tried for, in seconds: the other list does without it.
_PATIENCE = 5.0

_log = logging.getLogger(__name__)

Stored = Callable[[Table], pa.Table | None]
"""Returns the rows of a table in the destination, None where there is none."""


class Listing:
    """The whole list of a resource, read with the first call and kept for the run.

    `keys` are None where the API does not have the list: then rows that are nested in other lists
    are all there is. `stored` returns the rows of a table in the destination.
    With `writes_all` they are written again even where they are as the last run wrote them.
    """

    def __init__(
        self,
        resource: Resource,
        settings: Settings,
        client: Client,
        stored: Stored,
        *,
        writes_all: bool = False,
    ) -> None:
        self._writes_all = writes_all
        self.resource = resource
        self._stored = stored
        self._stored_keys: set[str] | None = None
        self.root = resource.parts[0].table
        self._settings = settings
        self._privacy = Privacy.of(settings)
        self._client = client
        self._bodies: list[bytes] | None = None
        self._read_at = datetime.now(timezone.utc)
        self._keys: pa.Array | None = None
        self._rows: pa.Table | None = None

    def keys(self) -> pa.Array | None:
        """Return the keys in the list, read now or earlier in this run."""
        self._read()
        return self._keys

    def rows(self) -> pa.Table | None:
        """Return the rows of the list, decoded; None where the API does not have it."""
        self._read()
        return self._rows

    def _read(self) -> None:
        if self._bodies is not None:
            return
        asked, limits = [("limit", str(self._settings.page_size))], self._settings.limits
        try:
            self._bodies = [page.body for page in follow(self._page, asked, limits=limits)]
            read = decode(self.resource, self._bodies, limits)
            batch = self._privacy.apply(self.resource, read)
        except (RateLimited, ServerFailed, Unreachable):
            raise
        except (ApiError, KeyRefused) as error:
            # The rows of the other list matter more: one that cannot be had stops nothing.
            _log.warning("%s %s stay as they are nested in other rows.", error.what, self.root.name)
            self._bodies = []
            return
        for row in batch.unreadable:
            _log.warning("A row of %s was left out: %s (%s).", self.root.name, row.reason, row.id)
        self._read_at = datetime.now(timezone.utc)
        self._rows = batch.rows
        self._keys = batch.rows[KEY].combine_chunks()

    def _page(self, asked: Parameters) -> Page:
        try:
            return self._client.page(self.resource, asked, _PATIENCE)
        except (RateLimited, ServerFailed, Unreachable):
            return self._client.page(self.resource, asked)

    def tables(self, states: Mapping[str, State], how: Splitting) -> dict[str, pa.Table]:
        """Return the rows to write: of each table whose state says that it has another list.

        `states` are the tables' own. The rows that are gone from the list come along, marked.
        """
        self._read()
        if self._rows is None:
            return {}
        digest = self._digest(self._rows)
        changed = {
            name
            for name, state in states.items()
            if self._writes_all or state.get("listed") != digest
        }
        made = split(self.resource, self._rows, self._read_at, how) if changed else {}
        tables = {name: rows for name, rows in made.items() if name in changed and len(rows)}
        is_settled = True
        if self.root.name in changed:
            gone, is_settled = self._gone()
            parts = [rows for rows in (tables.get(self.root.name), gone) if rows is not None]
            if parts:
                tables[self.root.name] = pa.concat_tables(parts, promote_options="default")
        for name in changed:
            # A row of which nobody knows yet whether it is gone is looked for by the next run.
            if is_settled or name != self.root.name:
                states[name]["listed"] = digest
        return tables

    def _gone(self) -> tuple[pa.Table | None, bool]:
        """Return the stored rows that are gone from the list, marked; and whether all is known."""
        rows = self._stored(self.root)
        if rows is None:
            return None, True
        unmarked = rows.filter(pc.is_null(rows[MISSING_SINCE]))
        unlisted = _without(unmarked, self._keys)
        fates = [self._is_gone(key) for key in unlisted[KEY].to_pylist()]
        gone = unlisted.filter(pa.array([fate is True for fate in fates], pa.bool_()))
        marked = _with(gone, {MISSING_SINCE: self._read_at, AS_OF: self._read_at})
        return (marked if len(gone) else None), None not in fates

    def _is_gone(self, key: str) -> bool | None:
        # A row that moved in the list while its pages were read can be missing from all of them,
        # and one that was made since then cannot be in any.
        try:
            return self._client.row(self.resource, key) is None
        except RowUnavailable:
            return None

    def fill_in(self, rows: pa.Table) -> pa.Table:
        """Return those rows, nested in another list, that neither this list nor the table has.

        A row that the API no longer has by its id either is marked as missing.
        """
        keys = self.keys()
        if self._stored_keys is None:
            stored = self._stored(self.root)
            self._stored_keys = set(stored[KEY].to_pylist()) if stored is not None else set()
        unknown = _without(rows, pa.array(list(self._stored_keys), TEXT))
        unknown = _without(unknown, keys) if keys is not None else unknown
        if not len(unknown):
            return unknown
        ids = unknown[KEY].to_pylist()
        self._stored_keys.update(ids)
        # Each is asked for once a run; without the list there is no telling what is missing.
        fates = {key: keys is not None and self._is_gone(key) for key in dict.fromkeys(ids)}
        since = [self._read_at if fates[key] else None for key in ids]
        return _set(unknown, MISSING_SINCE, pa.array(since, INSTANT))

    def _digest(self, rows: pa.Table) -> str:
        # Sorted: the order of the list is not documented, and another order is no change.
        texts = sorted(
            orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS) for row in rows.to_pylist()
        )
        return blake2b(b"\n".join(texts), digest_size=16).hexdigest()


def _without(rows: pa.Table, keys: pa.Array | None) -> pa.Table:
    if keys is None or not len(keys):
        return rows
    return rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=keys.cast(TEXT))))


def _with(rows: pa.Table, instants: Mapping[str, datetime]) -> pa.Table:
    for name, at in instants.items():
        rows = _set(rows, name, pa.repeat(pa.scalar(at, INSTANT), len(rows)))
    return rows


def _set(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    index = rows.schema.get_field_index(name)
    if index < 0:
        return rows.append_column(pa.field(name, INSTANT), column)
    return rows.set_column(index, rows.schema.field(index), column)
