"""A list without a time filter: read whole once a run, written where it changed.

A row that is gone from the list stays in its table, with the time since when it is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
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
from unify_source.destinations.contents import stored_rows
from unify_source.dlt_seam import capabilities, running_pipeline
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
from unify_source.flatten.tables import with_merge_columns
from unify_source.load.schema import Warehouse
from unify_source.resources import (
    INSTANT,
    KEY,
    MISSING_SINCE,
    SEQUENCE_LIST,
    TEXT,
    Resource,
    Table,
)
from unify_source.settings import Settings

State = dict[str, Any]

# How long a list that is no list is tried for, in seconds: the other list does without it.
_PATIENCE = 5.0

_log = logging.getLogger(__name__)

Stored = Callable[[Table], pa.Table | None]
"""Returns the rows of a table in the destination, None where there is none."""


class Listing:
    """The whole list of a resource, read with the first call and kept for the run.

    `stored` returns the rows of a table in the destination. With `writes_all` the rows of the list
    are written again even where they are as the last run wrote them.
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
        self.resource = resource
        self.root = resource.parts[0].table
        self._settings, self._client = settings, client
        self._privacy = Privacy.of(settings)
        self._stored = stored
        self._writes_all = writes_all
        self._is_read = False
        self._rows: pa.Table | None = None
        self._read_at = datetime.now(timezone.utc)
        self._settled: set[str] | None = None

    def rows(self) -> pa.Table | None:
        """Return the rows of the list, read now or earlier in this run, None where it has none.

        Where the API does not have it, rows that are nested in other lists are all there is.
        """
        if not self._is_read:
            self._rows, self._is_read = self._read(), True
            self._read_at = datetime.now(timezone.utc)
        return self._rows

    def _read(self) -> pa.Table | None:
        asked, limits = [("limit", str(self._settings.page_size))], self._settings.limits
        try:
            bodies = [page.body for page in follow(self._page, asked, limits=limits)]
            batch = self._privacy.apply(self.resource, decode(self.resource, bodies, limits))
        except (RateLimited, ServerFailed, Unreachable):
            raise
        except (ApiError, KeyRefused) as error:
            # The rows of the other list matter more: one that cannot be had stops nothing.
            _log.warning("%s %s stay as they are nested in other rows.", error.what, self.root.name)
            return None
        for row in batch.unreadable:
            _log.warning("A row of %s was left out: %s (%s).", self.root.name, row.reason, row.id)
        return batch.rows

    def _page(self, asked: Parameters) -> Page:
        try:
            return self._client.page(self.resource, asked, _PATIENCE)
        except (RateLimited, ServerFailed, Unreachable):
            return self._client.page(self.resource, asked)

    def tables(self, states: Mapping[str, State], how: Splitting) -> dict[str, pa.Table]:
        """Return the rows to write: of each table whose state says that it has another list.

        `states` are the tables' own. The rows that are gone from the list come along, marked.
        """
        rows = self.rows()
        if rows is None:
            return {}
        digest = _digest(rows)
        changed = [
            name
            for name, state in states.items()
            if self._writes_all or state.get("listed") != digest
        ]
        made = split(self.resource, rows, self._read_at, how) if changed else {}
        tables = {name: made[name] for name in changed}
        is_settled = True
        if (root := self.root.name) in changed:
            gone, is_settled = self._gone(rows)
            tables[root] = pa.concat_tables([tables[root], gone], promote_options="default")
        for name in changed:
            # A row of which nobody knows yet whether it is gone is looked for by the next run.
            if is_settled or name != root:
                states[name]["listed"] = digest
        return {name: table for name, table in tables.items() if len(table)}

    def _gone(self, listed: pa.Table) -> tuple[pa.Table, bool]:
        """Return the stored rows that are gone from the list, marked; and whether all is known."""
        rows = self._stored(self.root)
        if rows is None:
            rows = self.root.schema().empty_table()
        self._settled = set(rows[KEY].to_pylist())
        unmarked = rows.filter(pc.is_null(rows[MISSING_SINCE]))
        unlisted = _without(unmarked, listed[KEY])
        fates = [self._is_gone(key) for key in unlisted[KEY].to_pylist()]
        gone = unlisted.filter(pa.array([fate is True for fate in fates], pa.bool_()))
        since = pa.repeat(pa.scalar(self._read_at, INSTANT), len(gone))
        marked = with_merge_columns(self.root, _missing_since(gone, since), since)
        return marked, None not in fates

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
        listed = self.rows()
        unknown = rows if listed is None else _without(rows, listed[KEY])
        if not len(unknown):
            return unknown
        if self._settled is None:
            stored = self._stored(self.root)
            self._settled = set() if stored is None else set(stored[KEY].to_pylist())
        unknown = _without(unknown, pa.array(list(self._settled), TEXT))
        ids = unknown[KEY].to_pylist()
        # Each is asked for once a run; without the list there is no telling what is missing.
        self._settled.update(ids)
        fates = {key: listed is not None and self._is_gone(key) for key in dict.fromkeys(ids)}
        since = [self._read_at if fates[key] else None for key in ids]
        return _missing_since(unknown, pa.array(since, INSTANT))


def listed(
    listing: Listing,
    selected: frozenset[str],
    warehouse: Warehouse,
    state_of: Callable[[str], State],
) -> Iterator[Mapping[str, pa.Table]]:
    """Yield what a list without windows has for the selected tables, at most once."""
    own = selected & {part.table.name for part in listing.resource.parts}
    states = {name: state_of(name) for name in own}
    # Not even read where none of its tables is selected.
    if states and (tables := listing.tables(states, warehouse.splitting)):
        for name, rows in tables.items():
            warehouse.note(name, rows.schema)
        yield tables


def listing_of(settings: Settings, client: Client, *, writes_all: bool = False) -> Listing:
    """Return the list that has no windows, to be read at most once a run."""
    return Listing(SEQUENCE_LIST, settings, client, _stored, writes_all=writes_all)


def _stored(table: Table) -> pa.Table | None:
    # Without a destination, where a source is only iterated, nothing is stored.
    return stored_rows(running_pipeline(), table) if capabilities() else None


def _digest(rows: pa.Table) -> str:
    # Sorted: the order of the list is not documented, and another order is no change.
    texts = sorted(
        orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS) for row in rows.to_pylist()
    )
    return blake2b(b"\n".join(texts), digest_size=16).hexdigest()


def _without(rows: pa.Table, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=keys)))


def _missing_since(rows: pa.Table, since: pa.Array) -> pa.Table:
    index = rows.schema.get_field_index(MISSING_SINCE)
    return rows.set_column(index, rows.schema.field(index), since)
