"""The tables of a list without a time filter; each is written if its part of the list has changed.

A row that is gone from the list stays in its table, with the time since which it has been missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from itertools import islice

import pyarrow as pa

from unify_source.api.client import Client
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import QUARANTINE, Resource
from unify_source.common.settings import Settings
from unify_source.extract.full_list import FullList
from unify_source.flatten.decode.batches import as_one, decoded
from unify_source.flatten.decode.decode import Batch
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.split import split
from unify_source.load.listing.digests import digests_of
from unify_source.load.listing.missing import Missing
from unify_source.load.listing.odd_rows import sifted
from unify_source.load.schema.warehouse import Warehouse
from unify_source.load.state import State

_PAGES_AT_ONCE = 2


class Listing:
    """A list that has no windows, read when it is first needed, and kept for the run.

    `privacy` is applied as it is read.
    """

    def __init__(
        self,
        resource: Resource,
        settings: Settings,
        client: Client,
        notices: Notices | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        self.resource, self._settings = resource, settings
        self.privacy = privacy or Privacy.of(settings)
        self._root = resource.parts[0].table.name
        self._notices = notices or Notices()
        self._list = FullList(resource, settings, client, self._notices)
        self._missing = Missing(self._list, settings)

    @cached_property
    def batch(self) -> Batch | None:
        """What the list has; None if the API has no list, and only nested rows exist."""
        batches = self._list.read(self._decoded)
        return self.privacy.apply(self.resource, as_one(batches)) if batches else None

    def _decoded(self, bodies: Iterator[bytes]) -> list[Batch]:
        # Not all at once: rows that hold JSON become Python objects, a megabyte per page.
        pages = iter(lambda: list(islice(bodies, _PAGES_AT_ONCE)), [])
        return list(decoded(self.resource, pages, self._settings.limits))

    @cached_property
    def _digests(self) -> dict[str, str]:
        return digests_of(self.resource, self.batch) if self.batch else {}

    def tables(
        self,
        selected: Collection[str],
        warehouse: Warehouse,
        state_of: Callable[[str], State],
        *,
        writes_all: bool,
    ) -> dict[str, pa.Table]:
        """Return the rows to write: of the selected tables whose part of the list has changed.

        They include the rows that are gone from the list, marked. With `writes_all`, they are
        returned even if the last run wrote the same.
        """
        names = self._fed(selected)
        # Not even read if none of its tables is selected.
        if not names or (listed := self.batch) is None:
            return {}
        digests = self._digests
        states = {name: state_of(name) for name in names}
        changed = [n for n in names if writes_all or states[n].get("listed") != digests[n]]
        if not changed:
            return {}
        flat = split(self.resource, listed.rows, self._list.read_at, warehouse.splitting)
        tables, is_settled = {name: flat[name] for name in changed}, True
        if self._root in tables:
            gone, is_settled = self._missing.gone(listed)
            rows = [tables[self._root], gone]
            tables[self._root] = pa.concat_tables(rows, promote_options="default")
        for name, rows in tables.items():
            # If it is unknown whether a row is gone, the next run must ask again.
            if is_settled or name != self._root:
                states[name]["listed"] = digests[name]
            if len(rows):
                warehouse.note(name, rows)
        return {name: rows for name, rows in tables.items() if len(rows)}

    def odd_rows(
        self, selected: Collection[str], state_of: Callable[[str], State], *, writes_all: bool
    ) -> dict[str, pa.Table]:
        """Return what to write to the quarantine, if it is selected: see `odd_rows.sifted`."""
        is_read = QUARANTINE.name in selected and self._fed(selected)
        if not is_read or self.batch is None:
            return {}
        state, read_at = state_of(QUARANTINE.name), self._list.read_at
        rows = sifted(state, self._root, self.batch, read_at, writes_all=writes_all)
        return {QUARANTINE.name: rows} if len(rows) else {}

    def _fed(self, selected: Collection[str]) -> list[str]:
        names = (part.table.name for part in self.resource.parts)
        return [name for name in names if name in selected]

    def fill_in(self, rows: pa.Table) -> pa.Table:
        """Return the rows nested in another list that are neither in this list nor in the table.

        Those that the API does not have by id either are marked as missing.
        """
        return self._missing.fill_in(rows, self.batch)
