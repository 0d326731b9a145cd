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
from unify_source.api.responses import Page
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
from unify_source.flatten.split import split
from unify_source.resources import AS_OF, INSTANT, KEY, MISSING_SINCE, TEXT, Resource, Table
from unify_source.settings import Settings
from unify_source.times import rfc3339

State = dict[str, Any]

# How long a list that is no list is tried for, in seconds: the other list does without it.
_PATIENCE = 5.0

_log = logging.getLogger(__name__)

Stored = Callable[[Table], pa.Table | None]
"""Returns the rows of a table in the destination, None where there is none."""


class Listing:
    """The whole list of a resource, read with the first call and kept for the run.

    `keys` are None where the API does not have the list: then rows that are nested in other lists
    are all there is.
    """

    def __init__(self, resource: Resource, settings: Settings, client: Client) -> None:
        self.resource = resource
        self.root = resource.parts[0].table
        self._settings = settings
        self._client = client
        self._bodies: list[bytes] | None = None
        self._read_at = datetime.now(timezone.utc)
        self._keys: pa.Array | None = None
        self._rows: pa.Table | None = None

    def keys(self) -> pa.Array | None:
        """Return the keys in the list, read now or earlier in this run."""
        self._read()
        return self._keys

    def _read(self) -> None:
        if self._bodies is not None:
            return
        asked = [("limit", str(self._settings.page_size))]
        try:
            self._bodies = [page.body for page in follow(self._page, asked)]
            batch = decode(self.resource, self._bodies)
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

    def tables(
        self, states: Mapping[str, State], how: Splitting, stored: Stored
    ) -> dict[str, pa.Table]:
        """Return the rows to write: of each table whose state says that it has another list.

        `states` are the tables' own. The rows that are gone from the list come along, marked.
        """
        self._read()
        if self._rows is None:
            return {}
        digest = self._digest(self._rows)
        changed = {name for name, state in states.items() if state.get("listed") != digest}
        for name in changed:
            states[name]["listed"] = digest
        made = split(self.resource, self._rows, self._read_at, how) if changed else {}
        tables = {name: rows for name, rows in made.items() if name in changed and len(rows)}
        if self.root.name in changed:
            gone = self._gone(states[self.root.name], stored(self.root))
            listed = tables.get(self.root.name)
            parts = [rows for rows in (listed, gone) if rows is not None]
            if parts:
                tables[self.root.name] = pa.concat_tables(parts, promote_options="default")
        return tables

    def _gone(self, state: State, rows: pa.Table | None) -> pa.Table | None:
        missing: dict[str, str] = state.get("missing", {})
        listed = set(self._keys.to_pylist()) if self._keys is not None else set()
        missing = {key: since for key, since in missing.items() if key not in listed}
        state["missing"] = missing
        if rows is None:
            return None
        known = pa.array([*listed, *missing], TEXT)
        unlisted = rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=known)))
        gone = unlisted.filter(pa.array(map(self._is_gone, unlisted[KEY].to_pylist()), pa.bool_()))
        if not len(gone):
            return None
        missing.update(dict.fromkeys(gone[KEY].to_pylist(), rfc3339(self._read_at)))
        return _with(gone, {MISSING_SINCE: self._read_at, AS_OF: self._read_at})

    def _is_gone(self, key: str) -> bool:
        # A row that moved in the list while its pages were read can be missing from all of them.
        try:
            return self._client.row(self.resource, key) is None
        except RowUnavailable:
            return False

    def fill_in(self, rows: pa.Table, state: State) -> pa.Table:
        """Return those rows nested in another list that this list does not have, marked.

        Without the list, all of them; one that is known to be missing is left as it is.
        """
        if (keys := self.keys()) is None:
            return rows
        missing: dict[str, str] = state.setdefault("missing", {})
        known = pa.concat_arrays([keys.cast(TEXT), pa.array(list(missing), TEXT)])
        unknown = rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=known)))
        if not len(unknown):
            return unknown
        missing.update(dict.fromkeys(unknown[KEY].to_pylist(), rfc3339(self._read_at)))
        return _with(unknown, {MISSING_SINCE: self._read_at})

    def _digest(self, rows: pa.Table) -> str:
        # Sorted: the order of the list is not documented, and another order is no change.
        texts = sorted(
            orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS) for row in rows.to_pylist()
        )
        return blake2b(b"\n".join(texts), digest_size=16).hexdigest()


def _with(rows: pa.Table, instants: Mapping[str, datetime]) -> pa.Table:
    for name, at in instants.items():
        column = pa.repeat(pa.scalar(at, INSTANT), len(rows))
        index = rows.schema.get_field_index(name)
        rows = (
            rows.append_column(pa.field(name, INSTANT), column)
            if index < 0
            else rows.set_column(index, rows.schema.field(index), column)
        )
    return rows
