"""A list without a time filter: read completely once a run, and written if it changed.

A row that is gone from the list stays in its table, with the time since when it has been missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timezone
from functools import cached_property
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.api.by_id import each_by_id
from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.decode.decode import decode
from unify_source.destinations.contents import stored_rows
from unify_source.dlt_seam import capabilities, running_pipeline
from unify_source.errors import ApiError, KeyRefused, RateLimited, ServerFailed, Unreachable
from unify_source.extract.pagination import follow
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.split import split
from unify_source.flatten.tables import filled
from unify_source.load.schema import Warehouse
from unify_source.resources import INSTANT, KEY, KNOWN_AS_OF, MISSING_SINCE, SEQUENCE_LIST, TEXT
from unify_source.settings import Settings
from unify_source.state.tail import digest_of

State = dict[str, Any]

# How long to retry a broken list, in seconds: the run can do without it.
_PATIENCE = 5.0

_log = logging.getLogger(__name__)


class Listing:
    """The list that has no windows, read when it is first asked for, and kept for the run.

    With `writes_all` its rows are rewritten even if they are as the last run wrote them.
    """

    def __init__(self, settings: Settings, client: Client, *, writes_all: bool = False) -> None:
        self.resource = SEQUENCE_LIST
        self._root = self.resource.parts[0].table
        self._settings, self._client, self._writes_all = settings, client, writes_all
        self._read_at = datetime.now(timezone.utc)
        self._asked: set[str] = set()

    @cached_property
    def rows(self) -> pa.Table | None:
        """The rows of the list; None if the API has no list, and only nested rows exist."""
        asked, limits = [("limit", str(self._settings.page_size))], self._settings.limits
        try:
            bodies = [page.body for page in follow(self._page, asked, limits=limits)]
            read = decode(self.resource, bodies, limits)
        except (RateLimited, ServerFailed, Unreachable):
            raise
        except (ApiError, KeyRefused) as error:
            # The rows of the main list matter more: failing here would stop them too.
            _log.warning(
                "%s This run fills the table %s only from rows nested in other lists.",
                error.what,
                self._root.name,
            )
            return None
        finally:
            self._read_at = datetime.now(timezone.utc)
        batch = Privacy.of(self._settings).apply(self.resource, read)
        for row in batch.unreadable:
            _log.warning("A row of %s was left out: %s (%s).", self._root.name, row.reason, row.id)
        return batch.rows

    def _page(self, asked: Parameters) -> Page:
        try:
            return self._client.page(self.resource, asked, _PATIENCE)
        except (RateLimited, ServerFailed, Unreachable):
            return self._client.page(self.resource, asked)

    def tables(
        self, selected: Collection[str], warehouse: Warehouse, state_of: Callable[[str], State]
    ) -> dict[str, pa.Table]:
        """Return the rows to write: of the selected tables that were written from another list.

        They include the rows that are gone from the list, marked.
        """
        names = [part.table.name for part in self.resource.parts if part.table.name in selected]
        # Not even read if none of its tables is selected.
        rows = self.rows if names else None
        if rows is None:
            return {}
        # Sorted, because the order of the list is not documented. With the names of the columns,
        # because one that a new version adds is null until the list is written.
        columns = [name for part in self.resource.parts for name in part.table.schema().names]
        digest = digest_of([columns, *sorted(rows.to_pylist(), key=itemgetter(KEY))])
        states = {name: state_of(name) for name in names}
        changed = [n for n in names if self._writes_all or states[n].get("listed") != digest]
        flat = split(self.resource, rows, self._read_at, warehouse.splitting) if changed else {}
        tables, root, is_settled = {name: flat[name] for name in changed}, self._root.name, True
        if root in changed:
            gone, is_settled = self._gone(rows)
            tables[root] = pa.concat_tables([tables[root], gone], promote_options="default")
        for name in changed:
            # If it is unknown whether a row is gone, the next run has to ask again.
            if is_settled or name != root:
                states[name]["listed"] = digest
            if len(tables[name]):
                warehouse.note(name, tables[name])
        return {name: table for name, table in tables.items() if len(table)}

    @cached_property
    def _stored(self) -> pa.Table:
        # A source that is only iterated has no destination, and nothing is stored.
        account = self._settings.account
        rows = stored_rows(running_pipeline(), self._root, account) if capabilities() else None
        return self._root.schema().empty_table() if rows is None else rows

    def _gone(self, listed: pa.Table) -> tuple[pa.Table, bool]:
        """Return the stored rows that are gone from the list, marked; and whether all are known."""
        unmarked = self._stored.filter(pc.is_null(self._stored[MISSING_SINCE]))
        unlisted = _without(unmarked, listed[KEY])
        ids = unlisted[KEY].to_pylist()
        rows = self._by_id(ids)
        gone = unlisted.filter(pa.array([rows[key] is None for key in ids], pa.bool_()))
        since = pa.repeat(pa.scalar(self._read_at, INSTANT), len(gone))
        marked = filled(filled(gone, MISSING_SINCE, since), KNOWN_AS_OF, since)
        return marked, b"" not in rows.values()

    def _by_id(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """Return the row with each id: None if the API no longer has it, empty if unknown."""
        # Asked, because a row that moved in the list while its pages were read may be missing from
        # all of them, and one that was created since then is in none.
        asked, workers = list(dict.fromkeys(ids)), self._settings.workers
        return each_by_id(
            self._client, self.resource, asked, workers=workers, unavailable=lambda _: b""
        )

    def fill_in(self, rows: pa.Table) -> pa.Table:
        """Return the rows nested in another list that are neither in this list nor in the table.

        Those that the API does not have by id either are marked as missing.
        """
        unknown = rows if self.rows is None else _without(rows, self.rows[KEY])
        if not len(unknown):
            return unknown
        unknown = _without(_without(unknown, self._stored[KEY]), pa.array(self._asked, TEXT))
        ids = unknown[KEY].to_pylist()
        # Each is asked for once a run. Without the list it is unknown what is missing.
        self._asked.update(ids)
        found = self._by_id(ids if self.rows is not None else ())
        since = [self._read_at if found.get(key, b"") is None else None for key in ids]
        return filled(unknown, MISSING_SINCE, pa.array(since, INSTANT))


def _without(rows: pa.Table, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=keys)))
