"""All lists without a time filter, for one run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import pyarrow as pa

from unify_source.api.client import Client
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import UNWINDOWED_LISTS
from unify_source.common.settings import Settings
from unify_source.flatten.privacy import Privacy
from unify_source.load.listing.listing import Listing
from unify_source.load.schema.warehouse import Warehouse
from unify_source.load.state import State

Tables = dict[str, pa.Table]


class Listings:
    """The lists that have no windows, each read when it is first needed, and kept for the run.

    With `writes_all`, their rows are written even if the last run wrote the same.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        notices: Notices | None = None,
        *,
        writes_all: bool = False,
    ) -> None:
        self.writes_all = writes_all
        self._by_root = {
            resource.parts[0].table.name: Listing(resource, settings, client, notices)
            for resource in UNWINDOWED_LISTS
        }

    def tables(
        self,
        selected: Collection[str],
        warehouse: Warehouse,
        privacy: Privacy,
        state_of: Callable[[str], State],
    ) -> Iterator[Tables]:
        """Yield the rows of each list to write: see `Listing.tables` and `Listing.odd_rows`."""
        for listing in self._by_root.values():
            listing.privacy = privacy
            yield listing.tables(selected, warehouse, state_of, writes_all=self.writes_all)
            yield listing.odd_rows(selected, state_of, writes_all=self.writes_all)

    def fill_all(self, tables: Collection[str]) -> bool:
        """Tell whether these tables need no other list, because each is one that the API has."""
        listings = map(self._by_root.get, tables)
        return all(listing and listing.batch is not None for listing in listings)

    def fill_in(self, tables: Mapping[str, pa.Table]) -> Tables:
        """Return tables of another list, with only those nested rows that these lists lack."""
        return {
            name: listing.fill_in(rows) if (listing := self._by_root.get(name)) else rows
            for name, rows in tables.items()
        }
