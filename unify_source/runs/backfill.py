"""`backfill`: reload a range of `updated_at` without moving the cursor of `sync`."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime

import dlt
from typing_extensions import Unpack

from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME
from unify_source.common.settings import LOCK_TIMEOUT, RangeArguments, Settings
from unify_source.common.times import kept_instant, parse_range, rfc3339
from unify_source.extract.window import Window, left_after
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import run_settings
from unify_source.load.extraction.extraction import Extraction
from unify_source.load.ledger.entry import BACKFILL, Entry
from unify_source.load.packages import state_of
from unify_source.load.state import State
from unify_source.load.tables.window_load import AtEnd
from unify_source.runs.report import Report
from unify_source.runs.windows.run import WindowRun


def backfill(
    pipeline: dlt.Pipeline,
    start: str | date | datetime,
    end: str | date | datetime | None = None,
    *,
    newest_first: bool = False,
    restart: bool = False,
    only: Collection[str] = (),
    lock_timeout: float | str = LOCK_TIMEOUT.default,
    **settings: Unpack[RangeArguments],
) -> Report:
    """Reload what was updated from `start` to `end`, both included; up to now without `end`.

    A date as `start` is the midnight before that day, as `end` the whole day, in UTC. Leaves the
    cursor of `sync` alone. If it was stopped, another call with the same range and filters resumes
    it, on any machine, unless `restart`. `only` limits it to the named tables; rows that an earlier
    run left half merged are loaded into all tables. Raises a UnifyError.
    """
    since, until = parse_range(start, end)
    _refuse_unknown(only)
    with explained(pipeline):
        given = run_settings(pipeline, **settings)
        run = WindowRun(
            pipeline,
            given,
            lock_timeout,
            Entry(BACKFILL, pipeline.pipeline_name, given),
            moves_cursors=False,
            newest_first=newest_first,
            only=only,
        )
        with closing(run), run.ledger.open():
            job = _Job(since, until, run.settings, newest_first=newest_first, only=only)
            run.load(lambda: job.begin(run, restart=restart), job.progress)
            return replace(
                run.report("backfill"),
                resumed_from=job.resumed_from,
                is_in_future=job.is_in_future,
            )


def _refuse_unknown(tables: Collection[str]) -> None:
    if unknown := sorted(set(tables) - BY_NAME.keys()):
        raise ConfigurationError(
            f"names the table {unknown[0]!r}, which does not exist.",
            f"Tables are {', '.join(BY_NAME)}.",
            setting="only",
        )


class _Job:
    """A range to reload, and its progress: kept in the state, with the rows, until it is done."""

    def __init__(
        self,
        since: datetime,
        until: datetime | None,
        settings: Settings,
        *,
        newest_first: bool,
        only: Collection[str],
    ) -> None:
        self.resumed_from: datetime | None = None
        self._since = since
        self._until = until
        self._end = since
        self._newest_first = newest_first
        # Another range, filter, direction or selection is another job: it must not resume in the
        # middle of this one.
        filters = [f"{name}={value}" for name, value in settings.filters]
        ends = [rfc3339(since), rfc3339(until) if until else "now"]
        how = ["newest first"] * newest_first + [f"only {name}" for name in sorted(only)]
        self._name = " ".join([*ends, *filters, *how])

    @property
    def is_in_future(self) -> bool:
        """Whether nothing of the range has happened yet."""
        return self._end < self._since

    def begin(self, run: WindowRun, *, restart: bool) -> list[Window]:
        """Return what is left to load: the whole range, or the rest of an unfinished backfill.

        The rest too extends to now: a row that was not yet loaded may have moved there.
        """
        now = run.server_time()
        self._end = min(self._until or now, now)
        known = state_of(run.pipeline, run.settings.account).get("backfills", {}).get(self._name)
        if not known or restart:
            return [Window(self._since, self._end)]
        end, *left = ([kept_instant(at) for at in ends] for ends in known)
        windows = [Window(*ends) for ends in left]
        self.resumed_from = windows[0].before if self._newest_first else windows[0].after
        if not self._newest_first:
            return [Window(windows[0].after, self._end)]
        return [Window(end[0], self._end), *windows] if end[0] < self._end else windows

    def progress(self, left: list[Window]) -> AtEnd:
        """Return a function that stores in the state what will be left after a load."""

        def store(state: State, extraction: Extraction) -> None:
            backfills = state.get("backfills", {})
            others = {name: ends for name, ends in backfills.items() if name != self._name}
            # Stored with the rows, in one load. A local file could be ahead of them, and would be
            # lost with the machine.
            state["backfills"] = others
            if remaining := left_after(left, extraction.rest):
                ends: list[list[datetime | None]] = [[self._end]]
                ends += [[each.after, each.before] for each in remaining]
                state["backfills"] = {
                    **others,
                    self._name: [[rfc3339(at) for at in pair if at] for pair in ends],
                }

        return store
