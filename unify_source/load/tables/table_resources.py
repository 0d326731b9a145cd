"""Makes a dlt resource for each table; the selected ones share one reading."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import dlt
from dlt.extract import DltResource

from unify_source.api.client import Client
from unify_source.common.dlt_seam import (
    capabilities,
    emptied_tables,
    infer_json,
    keep_when_refreshed,
    load_id,
    prepare_dlt,
    running_pipeline,
    running_resources,
    with_rows_only,
)
from unify_source.common.resources import ALL_TABLES, BY_NAME, LEDGER, MAIN_LIST, QUARANTINE, Table
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import state_of_account
from unify_source.destinations.forgotten.databases import empty_staging
from unify_source.destinations.forgotten.people import forgotten
from unify_source.destinations.formats import has_json_columns, prepare
from unify_source.destinations.stored.unfinished import UnfinishedMerges
from unify_source.extract.window import Interval
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.tables import is_json
from unify_source.load.asked.asked import Asked
from unify_source.load.asked.interval import sample_pages
from unify_source.load.asked.refusals import refuse_reading_apart
from unify_source.load.extraction.extraction import Extraction
from unify_source.load.extraction.target import Tables, Target, carried_by_others
from unify_source.load.ledger.entry import SUCCEEDED, Entry, written
from unify_source.load.ledger.ledger import begun_by_dlt, noted_at_once
from unify_source.load.listing.listings import Listings
from unify_source.load.schema.contracts import contracts_of
from unify_source.load.schema.hints import add_location, described, note_privacy, tables_of
from unify_source.load.schema.warehouse import Warehouse, take_over_columns
from unify_source.load.state import State
from unify_source.load.state.checked import checked_privacy
from unify_source.load.state.cursors import Cursors, cursor_name, take_over
from unify_source.load.state.memory import forget_digests
from unify_source.load.tables.fan_out import FanOut
from unify_source.load.tables.window_load import WindowLoad
from unify_source.load.tables.writer import TableWriter

Resources = Mapping[str, DltResource]


class TableResources:
    """Makes a dlt resource of each table.

    Each evaluation reads what is new since the last one, or the `interval` that was asked for,
    which moves no cursor, or the `load` of a run.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        *,
        interval: Interval | None = None,
        load: WindowLoad | None = None,
    ) -> None:
        self._settings, self._client = settings, client
        self._interval, self._load = interval or Interval(), load or WindowLoad()
        self._moves_cursors = self._load.moves_cursors and self._interval.end is None
        self._feed = FanOut(self._begin)
        self._unfinished: UnfinishedMerges | None = None
        self._asked, self._writers = Asked(), dict[str, TableWriter]()

    def resources(self, tables: Iterable[Table] = ALL_TABLES) -> list[DltResource]:
        """Return the resources, in the order of the tables."""
        prepare_dlt()
        return [self._resource(table) for table in tables]

    def _resource(self, table: Table) -> DltResource:
        def rows() -> Iterator[Any]:
            running = running_resources()
            selected = {table.name: resource} if running is None else running
            if running is not None:
                refuse_reading_apart(table, dlt.current.resource_name(), selected)
            if not (loaded := selected.get(table.name)):
                return
            writer = TableWriter(table, loaded, self._settings, self._asked, self._load.notices)
            self._writers[table.name] = writer
            run = None if running is None else dlt.current.source()
            yield from writer.items(self._feed.rows(table.name, selected, run))

        resource: DltResource = dlt.resource(rows, name=table.name)
        described(resource, table, self._settings.account)
        add_location(resource, table, self._settings.base_url)

        def allowed(rows: Any) -> Any:
            infer_json(is_json)
            return self._writers[table.name].allowed(rows)

        return with_rows_only(resource, allowed)

    def _begin(self, selected: frozenset[str]) -> Generator[Tables, None, None]:
        """Read what the selected tables need; runs when the first of them is asked for rows."""
        resources = running_resources() or {}
        # Only our own code builds the source of a windowed run, so its hints need no check.
        if not self._load.extraction:
            self._asked.check(resources, self._settings)
        with self._begun(selected) as entry:
            batches = self._read(selected, resources, entry)
            first = next(batches, {})
        quarantined = 0
        for tables in chain([first], batches):
            if odd := tables.get(QUARANTINE.name):
                quarantined += written(odd)
            # dlt cannot load a table without rows into Postgres from Parquet.
            wanted = {n: rows for n, rows in tables.items() if n in selected and len(rows)}
            if entry:
                entry.count(wanted)
            yield wanted
        if main := resources.get(MAIN_LIST.name):
            main.custom_metrics["quarantined"] = quarantined
        if entry and LEDGER.name in selected and self._load.is_last():
            entry.commit()
            entry.end(SUCCEEDED)
            if entry.has_rows or not noted_at_once(entry):
                yield {LEDGER.name: entry.rows()}

    def _begun(self, selected: frozenset[str]) -> AbstractContextManager[Entry | None]:
        if self._load.entry or not capabilities():
            return nullcontext(self._load.entry)
        keep_when_refreshed(LEDGER.name)
        is_kept = LEDGER.name in selected
        return begun_by_dlt(self._settings, self._client) if is_kept else nullcontext()

    def _read(
        self, selected: frozenset[str], resources: Resources, entry: Entry | None
    ) -> Iterator[Tables]:
        schema, caps = dlt.current.source_schema(), capabilities()
        take_over_columns()
        # None if a notebook iterates the source without a pipeline: there is no destination.
        if caps:
            prepare(running_pipeline(), schema.tables)
        self._asked.contracts = contracts_of(schema, resources) if caps else {}
        warehouse = self._warehouse(schema, json_columns=has_json_columns(caps))
        sample = sample_pages(resources, self._settings.page_size)
        state_of = self._state_of if sample is None else _no_state
        privacy = self._privacy(resources)
        # Before any cursor is read: otherwise each table would seem never to have been loaded.
        main, quarantine = state_of(MAIN_LIST.name), state_of(QUARANTINE.name)
        take_over(main, quarantine, tables_of(MAIN_LIST), state_of)
        if rewrites := self._rewrites():
            forget_digests(main)
        listings = self._load.listings or self._new_listings(writes_all=rewrites)
        yield from filter(None, listings.tables(selected, warehouse, privacy, state_of))
        windowed = selected & tables_of(MAIN_LIST)
        if listings.fill_all(windowed):
            return
        target = self._target(windowed, warehouse, privacy, state_of, sample)
        extraction = self._load.extraction or self._new_extraction()
        yield from map(listings.fill_in, extraction.batches(target))
        self._report(resources, extraction)
        if sample is None:
            self._load.at_end(main, extraction)
            if entry:
                entry.note(extraction)
            if caps and not self._load.extraction:
                self._note_merge(extraction, is_whole=target.state is not None)

    def _warehouse(self, schema: dlt.Schema, *, json_columns: bool) -> Warehouse:
        return Warehouse.of(
            schema,
            self._settings,
            json_columns=json_columns,
            notices=self._load.notices,
            contracts=self._asked.contracts,
        )

    def _rewrites(self) -> bool:
        """Tell whether rows that an earlier run has read may be stored in some tables only."""
        if self._load.extraction or not capabilities():
            return self._load.rewrites
        self._unfinished = UnfinishedMerges(running_pipeline(), self._settings.account)
        return any(self._unfinished.half_merged())

    def _state_of(self, name: str) -> State:
        return state_of_account(dlt.current.resource_state(name), self._settings.account)

    def _privacy(self, resources: Resources) -> Privacy:
        """Return the treatment of personal data; raise if the tables were loaded with another."""
        if not capabilities():
            return Privacy.of(self._settings)
        pipeline, emptied = running_pipeline(), emptied_tables()
        ours = resources.keys() & BY_NAME.keys()
        noted = self._load.checked or checked_privacy(pipeline, self._settings, ours, emptied)
        note_privacy(resources.values(), noted)
        # Staging copies would stay until the next rows of their table, which may never come.
        empty_staging(pipeline, emptied)
        return Privacy.of(self._settings, forgotten(pipeline, self._settings.account))

    def _target(
        self,
        windowed: frozenset[str],
        warehouse: Warehouse,
        privacy: Privacy,
        state_of: Callable[[str], State],
        sample: int | None,
    ) -> Target:
        is_whole = windowed == tables_of(MAIN_LIST)
        return Target(
            warehouse,
            Cursors(cursor_name(self._settings), windowed, state_of),
            privacy,
            state_of(MAIN_LIST.name) if is_whole else None,
            state_of(QUARANTINE.name),
            moves_cursors=self._moves_cursors and sample is None,
            sample_pages=sample,
            carried=lambda: carried_by_others(windowed, self._settings.account),
        )

    def _new_listings(self, *, writes_all: bool) -> Listings:
        return Listings(self._settings, self._client, self._load.notices, writes_all=writes_all)

    def _new_extraction(self) -> Extraction:
        return Extraction(MAIN_LIST, QUARANTINE, self._settings, self._client, None, self._interval)

    def _note_merge(self, extraction: Extraction, *, is_whole: bool) -> None:
        if self._unfinished and extraction.covered and extraction.rows:
            is_whole = is_whole and not self._settings.filters
            self._unfinished.note_by_dlt(load_id(), extraction.covered, is_whole=is_whole)

    def _report(self, resources: Resources, extraction: Extraction) -> None:
        if resource := resources.get(MAIN_LIST.name):
            resource.custom_metrics.update(
                pages=extraction.pages, requests=self._client.requests, rows=extraction.rows
            )


def _no_state(_name: str | None = None) -> State:
    # A sample leaves no trace: a cursor past rows that `add_limit` cut off would lose them.
    return {}
