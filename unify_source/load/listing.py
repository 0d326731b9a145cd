"""A list without a time filter: read whole once a run, written where it changed.

A row that is gone from the list stays in its table, with the time since when it is missing.
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

# How long a list that is no list is tried for, in seconds: the other list does without it.
_PATIENCE = 5.0

_log = logging.getLogger(__name__)


class Listing:
    """The list that has no windows, read when it is first asked for, and kept for the run.

    With `writes_all` its rows are written again even where they are as the last run wrote them.
    """

    def __init__(self, settings: Settings, client: Client, *, writes_all: bool = False) -> None:
        self.resource = SEQUENCE_LIST
        self._root = self.resource.parts[0].table
        self._settings, self._client, self._writes_all = settings, client, writes_all
        self._read_at = datetime.now(timezone.utc)
        self._asked: set[str] = set()

    @cached_property
    def rows(self) -> pa.Table | None:
        """The rows of the list; None where the API has no list, so that nested rows are all."""
        asked, limits = [("limit", str(self._settings.page_size))], self._settings.limits
        try:
            bodies = [page.body for page in follow(self._page, asked, limits=limits)]
            read = decode(self.resource, bodies, limits)
        except (RateLimited, ServerFailed, Unreachable):
            raise
        except (ApiError, KeyRefused) as error:
            # The rows of the other list matter more: one that cannot be had stops nothing.
            _log.warning(
                "%s %s stay as they are nested in other rows.", error.what, self._root.name
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
        """Return the rows to write: of the selected tables whose state tells of another list.

        The rows that are gone from the list come along, marked.
        """
        names = [part.table.name for part in self.resource.parts if part.table.name in selected]
        # Not even read where none of its tables is selected.
        rows = self.rows if names else None
        if rows is None:
            return {}
        # In one order: that of the list is not documented, and another order is no change.
        # Of the columns as well: one that a new version fills in is null until the list is written.
        columns = [name for part in self.resource.parts for name in part.table.schema().names]
        digest = digest_of([columns, *sorted(rows.to_pylist(), key=itemgetter(KEY))])
        states = {name: state_of(name) for name in names}
        changed = [n for n in names if self._writes_all or states[n].get("listed") != digest]
        made = split(self.resource, rows, self._read_at, warehouse.splitting) if changed else {}
        tables, root, is_settled = {name: made[name] for name in changed}, self._root.name, True
        if root in changed:
            gone, is_settled = self._gone(rows)
            tables[root] = pa.concat_tables([tables[root], gone], promote_options="default")
        for name in changed:
            # A row of which nobody knows yet whether it is gone is looked for by the next run.
            if is_settled or name != root:
                states[name]["listed"] = digest
            if len(tables[name]):
                warehouse.note(name, tables[name].schema)
        return {name: table for name, table in tables.items() if len(table)}

    @cached_property
    def _stored(self) -> pa.Table:
        # Without a destination, where a source is only iterated, nothing is stored.
        whose = self._settings.account
        rows = stored_rows(running_pipeline(), self._root, whose) if capabilities() else None
        return self._root.schema().empty_table() if rows is None else rows

    def _gone(self, listed: pa.Table) -> tuple[pa.Table, bool]:
        """Return the stored rows that are gone from the list, marked; and whether all is known."""
        unmarked = self._stored.filter(pc.is_null(self._stored[MISSING_SINCE]))
        unlisted = _without(unmarked, listed[KEY])
        keys = unlisted[KEY].to_pylist()
        fates = self._fates(keys)
        gone = unlisted.filter(pa.array([fates[key] is None for key in keys], pa.bool_()))
        since = pa.repeat(pa.scalar(self._read_at, INSTANT), len(gone))
        marked = filled(filled(gone, MISSING_SINCE, since), KNOWN_AS_OF, since)
        return marked, b"" not in fates.values()

    def _fates(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """Return for each id None where the API no longer has it, "" where nobody knows."""
        # A row that moved in the list while its pages were read can be missing from all of them,
        # and one that was made since then cannot be in any.
        asked, workers = list(dict.fromkeys(ids)), self._settings.workers
        return each_by_id(
            self._client, self.resource, asked, workers=workers, unavailable=lambda _: b""
        )

    def fill_in(self, rows: pa.Table) -> pa.Table:
        """Return those rows, nested in another list, that neither this list nor the table has.

        A row that the API no longer has by its id either is marked as missing.
        """
        unknown = rows if self.rows is None else _without(rows, self.rows[KEY])
        if not len(unknown):
            return unknown
        unknown = _without(_without(unknown, self._stored[KEY]), pa.array(self._asked, TEXT))
        ids = unknown[KEY].to_pylist()
        # Each is asked for once a run; without the list there is no telling what is missing.
        self._asked.update(ids)
        fates = self._fates(ids if self.rows is not None else ())
        since = [self._read_at if fates.get(key, b"") is None else None for key in ids]
        return filled(unknown, MISSING_SINCE, pa.array(since, INSTANT))


def _without(rows: pa.Table, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=keys)))
