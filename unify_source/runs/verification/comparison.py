"""One comparison: reads the API, reads the tables, and confirms the differences."""

from __future__ import annotations

import time
from datetime import datetime

import dlt
import duckdb
from dlt.common.destination import DestinationCapabilitiesContext

from unify_source.api.client import Client
from unify_source.common.dlt_seam import looking_at, raise_if_signalled
from unify_source.common.errors import UnifyError
from unify_source.common.resources import MAIN_LIST, UNWINDOWED_LISTS
from unify_source.common.settings import Settings
from unify_source.common.times import EPOCH
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.forgotten.people import forgotten
from unify_source.destinations.formats import has_json_columns
from unify_source.destinations.locks.turns import opened_file
from unify_source.destinations.stored.contents import row_count
from unify_source.extract.window import Window
from unify_source.flatten.forgotten import Forgotten
from unify_source.flatten.privacy import Privacy
from unify_source.load.configuration.reasons import MORE_MEMORY
from unify_source.load.ledger.reading import last_runs
from unify_source.load.packages import stored_schema
from unify_source.load.schema.warehouse import Warehouse
from unify_source.load.source import SOURCE
from unify_source.load.state.checked import checked_privacy
from unify_source.runs.verification.differences import KINDS, MOST_ASKED, confirm, suspect
from unify_source.runs.verification.result import Group, Verified
from unify_source.runs.verification.sides.api import Api
from unify_source.runs.verification.sides.scratch import API, COMPARED, Scratch
from unify_source.runs.verification.sides.stored import ROOTS, read_stored
from unify_source.runs.windows.footprint import hold_down
from unify_source.runs.windows.progress import WindowProgress

_EXAMPLES = 10
# DuckDB would cache what it reads, up to four fifths of the machine's memory.
_WHILE_STREAMING = "100MB"


class Comparison:
    """Compares a range; without a start, from the first row on.

    `began` is the server's time when the last comparison began, `is_loaded` whether there were
    tables to compare, `forgotten` the people whose rows it left out, `window` the range that it
    read, and `client` the API's client.
    """

    def __init__(
        self,
        pipeline: dlt.Pipeline,
        settings: Settings,
        since: datetime | None,
        until: datetime | None,
        lock_timeout: float | str,
        *,
        as_loaded: bool,
    ) -> None:
        self.began = EPOCH
        self.is_loaded = False
        self.forgotten = Forgotten()
        self.window: Window | None = None
        self._pipeline = pipeline
        self._settings = settings
        self._until = until
        self._as_loaded = as_loaded
        self._loaded_until: datetime | None = None
        # Rows that were updated before `start` are not loaded, so they cannot be missing.
        self._since = max(filter(None, [since, settings.start]), default=None)
        self._is_whole = not (self._since or until or settings.filters)
        self._lock_timeout = lock_timeout
        self.client = Client(settings, raise_if_signalled)
        collector = pipeline.collector
        self._progress = collector if isinstance(collector, WindowProgress) else None

    def run(self, sides: Scratch) -> Verified:
        """Read both sides into the scratch database, and return what differs."""
        started = time.monotonic()
        if self._progress:
            self._progress.connecting(self._settings.base_url)
        with looking_at(self._pipeline) as looking:
            caps = looking.destination.capabilities()
            warehouse = self._warehouse(looking, caps)
            began = self.client.server_time(MAIN_LIST)
            # What changed later is not expected in the tables.
            settled = min(self._loaded_until or began, began)
            window = self.window = Window(self._since, min(self._until or settled, settled))
            self.is_loaded = warehouse.has(ROOTS[0].name)
            privacy = self._privacy(looking)
            api = Api(self._settings, self.client, warehouse, caps, privacy, sides, self._progress)
            if not window.is_empty:
                api.read(API, window)
            whole = [each for each in UNWINDOWED_LISTS if api.read_whole(API, each)]
            [(quarantined,)] = sides.run("SELECT count(DISTINCT id) FROM unreadable")
            # After the API, so that a row loaded meanwhile is newer than the one read, not missing.
            self._read_tables(looking, warehouse, api, window, sides)
            self._doing("Comparing")
            suspect(sides, (MAIN_LIST, *whole), is_whole=self._is_whole)
            # People who were forgotten since then are in no table, but not missing.
            api.privacy = self._privacy(looking)
            confirm(sides, api, settled)
        self.began = began
        [(compared,)] = sides.run(f"SELECT count(DISTINCT id) FROM {API}_{MAIN_LIST.name}")
        return Verified(
            dataset=self._pipeline.dataset_name,
            tables=_counts(sides),
            compared=compared,
            quarantined=quarantined,
            requests=self.client.requests,
            seconds=time.monotonic() - started,
            groups=_groups(sides),
            notes=self._notes(api.gaps, sides),
        )

    def _notes(self, gaps: int, sides: Scratch) -> tuple[str, ...]:
        notes = []
        [(unasked,)] = sides.run("SELECT count(*) FROM unasked")
        if unasked:
            notes.append(
                f"{unasked:,} more rows are not in the list, and were not asked for by id: a"
                f" comparison asks for at most {MOST_ASKED:,}. They count as different, and"
                " a repair leaves them to the next comparison."
            )
        if gaps:
            notes.append(
                f"Rows changed so fast that others may have been skipped, in {gaps:,}"
                " ranges of time: verify again when fewer rows change."
            )
        if not self.is_loaded:
            notes.append("Nothing has been loaded yet: run unify-source sync.")
        return tuple(notes)

    def _read_tables(
        self,
        looking: dlt.Pipeline,
        warehouse: Warehouse,
        api: Api,
        window: Window,
        sides: Scratch,
    ) -> None:
        self._doing("Reading the tables")
        if self._exists(looking):
            with opened_file(looking, self._lock_timeout):
                hold_down(looking, _WHILE_STREAMING)
                try:
                    read_stored(
                        looking,
                        warehouse,
                        api.columns,
                        window,
                        self._settings,
                        sides,
                        is_whole=self._is_whole,
                    )
                except duckdb.OutOfMemoryException as error:
                    what = f"The tables could not be read: {str(error).splitlines()[0]}"
                    raise UnifyError(what, MORE_MEMORY) from error

    def _expect(self, rows: int | None) -> None:
        # Of a range, nobody knows how many rows it has before it is read.
        if self._progress and self._is_whole and rows:
            self._progress.expects(rows)

    def _doing(self, what: str) -> None:
        if self._progress:
            self._progress.doing(what)

    def _exists(self, looking: dlt.Pipeline) -> bool:
        # Opening a file that is missing would create it.
        database = duckdb_database(looking)
        return database is None or database.has_content

    def _privacy(self, looking: dlt.Pipeline) -> Privacy:
        if self._exists(looking):
            with opened_file(looking, self._lock_timeout):
                self.forgotten = forgotten(looking, self._settings.account)
        return Privacy.of(self._settings, self.forgotten)

    def _warehouse(self, looking: dlt.Pipeline, caps: DestinationCapabilitiesContext) -> Warehouse:
        schema = dlt.Schema(SOURCE)
        if self._exists(looking):
            with opened_file(looking, self._lock_timeout):
                looking.sync_destination()
                schema = stored_schema(looking)
                # With another pii_key, every row with personal data would differ.
                checked_privacy(looking, self._settings, COMPARED)
                if self._as_loaded:
                    self._loaded_until = last_runs(looking, self._settings.account).loaded_until
                self._expect(row_count(looking, ROOTS[0].name, self._settings.account))
        return Warehouse.of(schema, self._settings, json_columns=has_json_columns(caps))


def _counts(sides: Scratch) -> dict[str, dict[str, int]]:
    counts = {table: dict.fromkeys(KINDS, 0) for table in COMPARED}
    for table, kind, count in sides.run(
        "SELECT tbl, kind, sum(n)::BIGINT FROM differences WHERE kind IS NOT NULL GROUP BY ALL"
    ):
        counts[table][kind] = count
    return counts


def _groups(sides: Scratch) -> tuple[Group, ...]:
    rows = sides.run(
        "SELECT tbl, kind, CAST(moment AS DATE) AS day, sum(n)::BIGINT,"
        f" min(id, {_EXAMPLES}) FROM differences WHERE kind IS NOT NULL"
        " GROUP BY ALL ORDER BY tbl, day DESC NULLS LAST, kind"
    )
    return tuple(
        Group(table, kind, day, count, tuple(ids)) for table, kind, day, count, ids in rows
    )
