"""Notes windows and rows in the destination while they are merged, for a run that dies meanwhile.

A process that dies between the merges of two tables leaves one of them newer than the other. A
`sync` reads its own window again, but the window of a backfill, of an interval or of a filtered run
may be any, and so may the rows of a repair.

So each load claims what it is about to merge, and the run drops the claim when it ends. A run by
dlt is not there when its load ends: its claim stays until the next run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dlt

from unify_source.common.errors.redaction import redacted
from unify_source.common.settings.accounts import table_of
from unify_source.common.times import kept_instant, rfc3339
from unify_source.destinations.locks.claims import Claim, Claims, claims_in
from unify_source.destinations.stored.history import finished_loads
from unify_source.extract.window import Window, begin

_log = logging.getLogger(__name__)

MERGES = "merges"
"""Where the claims are: in the table `_unify_merges`, or in the folder `DATASET_merges`."""


class UnfinishedMerges:
    """The windows and rows of an account that any run may have merged into some tables only."""

    def __init__(self, pipeline: dlt.Pipeline, account: str | None = None) -> None:
        self._pipeline, self._place = pipeline, table_of(MERGES, account)
        self._loads: set[str] = set()
        self._left: dict[str, Claim] = {}
        self._exists: bool | None = None

    def note(self, loads: Iterable[str], window: Window | None, ids: Iterable[str] = ()) -> None:
        """Note that these loads are about to merge a window's rows, and the rows with these ids."""
        claim = _claim(window, ids)
        with self._claims() as claims:
            # The first load creates the dataset. Until it is done, no row can be left in an older
            # version.
            if claims and claims.has_dataset():
                for load in loads:
                    claims.put(load, claim)
                    self._loads.add(load)

    def note_by_dlt(self, load: str, window: Window, *, is_whole: bool) -> None:
        """Note that a run by dlt is about to merge a window, of all rows or of some.

        Of what `half_merged` has read, what was merged since is forgotten, and so is what lies in
        the window if all of its rows are merged.
        """
        left = {of for of, at in self._left.items() if not (is_whole and _lies_in(window, at))}
        try:
            with self._claims() as claims:
                if claims and claims.has_dataset():
                    claims.put(load, _claim(window))
                    claims.drop(*self._loads - left - {load})
        except Exception as error:  # noqa: BLE001 - dlt loads into what may refuse such a table
            _log.warning("The range of this run is not noted: %s", redacted(str(error)))

    def forget(self) -> None:
        """Forget the windows and rows that were noted or found: all of them have been merged.

        Those that another run has noted since remain: it may have died while this one was waiting.
        """
        if self._loads:
            with self._claims() as claims:
                if claims:
                    claims.drop(*self._loads)
        self._loads.clear()

    def half_merged(self) -> tuple[list[Window], list[str]]:
        """Return the windows and the ids of rows that have to be merged again."""
        with self._claims() as claims:
            noted = claims.all() if claims else {}
        self._loads |= noted.keys()
        done = finished_loads(self._pipeline.destination_client(), noted) if noted else set()
        self._left = {load: noted[load] for load in noted.keys() - done}
        left = self._left.values()
        windows = {window for claim in left if (window := _window(claim))}
        return sorted(windows, key=begin), sorted({key for claim in left for key in _ids(claim)})

    @contextmanager
    def _claims(self) -> Iterator[Claims | None]:
        with claims_in(self._pipeline, self._place, exists=self._exists) as claims:
            yield claims
            if claims:
                self._exists = claims.exists


def _claim(window: Window | None, ids: Iterable[str] = ()) -> Claim:
    about = {"ids": json.dumps(list(ids))}
    if window:
        about["before"] = rfc3339(window.before)
        if window.after:
            about["after"] = rfc3339(window.after)
    return Claim("merge", 0, about)


def _window(claim: Claim) -> Window | None:
    after, before = map(claim.holder.get, ("after", "before"))
    return Window(kept_instant(after) if after else None, kept_instant(before)) if before else None


def _ids(claim: Claim) -> list[str]:
    # A file may be incomplete, if the run died before it merged anything.
    ids: list[str] = json.loads(claim.holder.get("ids", "[]"))
    return ids


def _lies_in(window: Window, claim: Claim) -> bool:
    noted = _window(claim)
    return bool(noted and window.covers(noted) and not _ids(claim))
