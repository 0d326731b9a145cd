"""The API's side: whole lists and rows by id, digested as they would be loaded."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import DestinationCapabilitiesContext

from unify_source.api.by_id import page_with, some_by_id
from unify_source.api.client import Client
from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.errors import RowUnavailable
from unify_source.common.resources import CURSOR, INSTANT, KEY, MAIN_LIST, TEXT, Resource
from unify_source.common.settings import Settings
from unify_source.destinations.formats import storable
from unify_source.extract.reader import Reading
from unify_source.extract.samples.probe import without_past
from unify_source.extract.window import Window
from unify_source.flatten.decode.batches import decoded, joined, up_to
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.split import SHOWN_AT, SHOWN_BY, versions
from unify_source.load.listing.listing import Listing
from unify_source.load.schema.warehouse import Warehouse
from unify_source.runs.verification.sides.scratch import Scratch
from unify_source.runs.windows.progress import WindowProgress

HERE, GONE, UNKNOWN = "here", "gone", "unknown"
"""The API's answer for a row that was asked for by id."""

# A portion commits nothing here: it only shows progress.
_WINDOWS_AT_ONCE = 5
# Beside its rows, a batch costs a few milliseconds for each of its tables.
_BATCHES_AT_ONCE = 2
_BAD_REQUEST = 400


class Api:
    """Reads the API into the scratch database, split and formatted as a load would write it."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        warehouse: Warehouse,
        caps: DestinationCapabilitiesContext | None,
        privacy: Privacy,
        scratch: Scratch,
        progress: WindowProgress | None,
    ) -> None:
        self.client = client
        self.columns: dict[str, set[str]] = {}
        """The columns that any row had, by table."""
        self.gaps = 0
        """The number of ranges of time in which rows changed too fast to be read without a gap."""
        self._settings = settings
        self._warehouse = warehouse
        self._caps = caps
        self.privacy = privacy
        """How personal data is treated in the rows read from now on."""
        self._scratch = scratch
        self._progress = progress

    def read(self, side: str, window: Window, *, filtered: bool = True) -> None:
        """Read the main list over a closed window."""
        windows = without_past(partial(self.client.page, MAIN_LIST), window)
        if self._progress:
            after = windows[-1].after
            self._progress.began(window.before - after if after else None)
        for read in self._batches(windows, filtered=filtered):
            # Hidden first, as in a load: personal data is compared in its hidden form.
            batch = up_to(window.before, self.privacy.apply(MAIN_LIST, read))
            if window.after:
                later = pc.greater_equal(batch.rows[CURSOR], pa.scalar(window.after, INSTANT))
                batch = Batch(batch.rows.filter(later), batch.unreadable)
            self._take(side, MAIN_LIST, batch)

    def _batches(self, windows: list[Window], *, filtered: bool) -> Iterator[Batch]:
        portions = self._portions(windows, filtered=filtered)
        return joined(decoded(MAIN_LIST, portions, self._settings.limits), _BATCHES_AT_ONCE)

    def _portions(self, windows: list[Window], *, filtered: bool) -> Iterator[list[bytes]]:
        with_gaps = yield from self._portions_of(windows, filtered=filtered)
        if with_gaps:
            with_gaps = yield from self._portions_of(with_gaps, filtered=filtered)
        self.gaps += len(with_gaps)

    def _portions_of(
        self, windows: list[Window], *, filtered: bool
    ) -> Generator[list[bytes], None, list[Window]]:
        """Yield the pages of windows; return the windows in which changes may have hidden a row."""
        settings = self._settings
        reading = Reading(
            self.client,
            MAIN_LIST,
            windows,
            settings.filters if filtered else (),
            page_size=settings.page_size,
            workers=settings.workers,
            enough=_WINDOWS_AT_ONCE * settings.window_rows,
            limits=settings.limits,
            lookback=settings.lookback,
            heartbeat=raise_if_signalled,
        )
        until, with_gaps = windows[-1].before, []
        try:
            while True:
                yield from reading
                with_gaps += reading.unsettled
                left = until - reading.covered.before
                if self._progress:
                    self._progress.window_done(left)
                if not left:
                    return with_gaps
        finally:
            reading.close()

    def read_whole(self, side: str, resource: Resource) -> bool:
        """Read a list without windows; tell whether the API has it."""
        batch = Listing(resource, self._settings, self.client, privacy=self.privacy).batch
        if batch is None:
            return False
        self._take(side, resource, batch)
        return True

    def ask(self, side: str, resource: Resource, ids: Sequence[str]) -> None:
        """Ask for rows by id, and note the answer for each in the table `asked`."""
        if self._progress and ids:
            self._progress.doing(f"Asking again about {len(ids):,} rows")
        workers = self._settings.workers
        for answers in some_by_id(
            self.client, resource, ids, workers=workers, unavailable=_unavailable
        ):
            read = decode(resource, [page_with(resource, answers)], self._settings.limits)
            batch = self.privacy.apply(resource, read)
            self._take(side, resource, batch)
            here = set(batch.rows[KEY].to_pylist())
            fates = [
                HERE if key in here else GONE if row is None else UNKNOWN
                for key, row in answers.items()
            ]
            lists = [resource.name] * len(answers)
            asked = pa.table({"list": lists, "id": list(answers), "fate": fates})
            self._scratch.put("asked", asked)

    def _take(self, side: str, resource: Resource, batch: Batch) -> None:
        if batch.unreadable:
            keys = [row.key for row in batch.unreadable]
            self._scratch.put("unreadable", pa.table({"id": pa.array(keys, TEXT)}))
        if not len(batch.rows):
            return
        if self._progress and resource is MAIN_LIST:
            self._progress.rows_read(len(batch.rows))
        for part, rows in zip(
            resource.parts, self._flattened(resource, batch.rows).values(), strict=True
        ):
            name = part.table.name
            self.columns.setdefault(name, set()).update(rows.schema.names)
            if not len(rows):
                continue
            # What another list fills in is compared with that list: here it only has to exist.
            into = f"{name}_nested" if part.fills_in else name
            types = self._warehouse.content(part.table)
            own = CURSOR in part.table.schema().names
            moment = rows[CURSOR] if own else rows[SHOWN_AT]
            self._scratch.add(side, into, rows, types, owner=rows[SHOWN_BY], moment=moment)

    def _flattened(self, resource: Resource, rows: pa.Table) -> dict[str, pa.Table]:
        # The only place where rows take the form that a load writes.
        tables = versions(resource, rows, self._warehouse.splitting)
        return {name: storable(self._caps, table) for name, table in tables.items()}


def _unavailable(error: RowUnavailable) -> bytes | None:
    # An invalid id does not come from the API: somebody else wrote that row.
    return None if error.status == _BAD_REQUEST else b""
