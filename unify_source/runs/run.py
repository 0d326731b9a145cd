"""Runs that scripts and schedulers call: `sync` and `backfill`, window by window."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import date, datetime, timedelta
from typing import Any

import dlt
from dlt.common.pipeline import ExtractInfo
from dlt.common.runtime.collector_base import Collector
from dlt.common.runtime.signals import raise_if_signalled
from dlt.extract import DltSource

from unify_source.api.client import Client
from unify_source.destinations.formats import keep_indexed
from unify_source.destinations.lock import LOCK_TIMEOUT, Turns
from unify_source.errors import LoadFailed
from unify_source.extract.reader import Reading
from unify_source.extract.window import Window
from unify_source.load.dlt_errors import explained
from unify_source.load.load import Load, Part
from unify_source.load.packages import (
    cursor,
    packages_with_rows,
    quarantined,
    start_over,
    state_of,
    take_back,
)
from unify_source.load.source import (
    Backfills,
    Progress,
    backfill_source,
    configured,
    cursor_name,
    window_source,
)
from unify_source.resources import ENROLLMENT_LIST
from unify_source.runs.footprint import give_back, hold_down
from unify_source.runs.report import Report
from unify_source.settings import Settings, parse_range
from unify_source.times import kept_instant, rfc3339


def sync(pipeline: dlt.Pipeline, *, lock_timeout: float = LOCK_TIMEOUT, **settings: Any) -> Report:
    """Load all that changed since the pipeline's last run; the first run loads everything.

    `settings` are those of `unify_source`. Every window of about `window_rows` enrollments is
    committed with the cursor before the next one is loaded, the oldest first. Raises a UnifyError.
    """
    with explained(), closing(_Run(pipeline, configured(**settings), lock_timeout)) as run:
        run.load(
            lambda: [Window(None, run.client.server_time(ENROLLMENT_LIST))],
            lambda load, schema, _: window_source(run.settings, load, schema),
        )
        return run.report("sync")


def backfill(
    pipeline: dlt.Pipeline,
    start: str | date,
    end: str | date | None = None,
    *,
    newest_first: bool = False,
    restart: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
    **settings: Any,
) -> Report:
    """Load again what was updated from `start` to `end`, both included; until now without `end`.

    A date as `start` is the midnight before that day, as `end` the whole day, in UTC. Leaves the
    cursor of `sync` alone. Stopped and called again with the same range and filters it goes on
    where it was, on any machine, unless `restart`. Raises a UnifyError.
    """
    since, until = parse_range(start, end)
    with (
        explained(),
        closing(
            _Run(pipeline, configured(**settings), lock_timeout, newest_first=newest_first)
        ) as run,
    ):
        job = _Backfill(since, until, run.settings, newest_first=newest_first)
        run.load(
            lambda: job.begin(run, restart=restart),
            lambda load, schema, left: backfill_source(load, schema, job.progress(left)),
        )
        return run.report("backfill", resumed_from=job.resumed_from, is_in_future=job.is_in_future)


class WindowProgress(Collector):
    """A collector of dlt's that also shows when a window has been loaded."""

    @abstractmethod
    def window_done(self, left: timedelta) -> None:
        """Show that a window is loaded, and what range of `updated_at` is left to load."""


class _Run:
    """One run: its client, its turns on the dataset, what it reads ahead and has written."""

    def __init__(
        self,
        pipeline: dlt.Pipeline,
        settings: Settings,
        lock_timeout: float,
        *,
        newest_first: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.client = Client(settings, raise_if_signalled)
        self._newest_first = newest_first
        self._ahead: Reading | None = None
        self._turns = Turns(pipeline, lock_timeout)
        self._has_turn = False
        self._turn = ExitStack()
        self._enrollments = 0
        self._started = time.monotonic()

    def close(self) -> None:
        """Give up the turn, and what was read ahead: another run may load newer rows now."""
        if self._ahead:
            self._ahead.close()
            self._ahead = None
        self._turn.close()
        self._has_turn = False

    def load(
        self,
        begin: Callable[[], list[Window]],
        source: Callable[[Load, dlt.Schema, list[Window]], DltSource],
    ) -> None:
        """Read and commit the windows that `begin` returns, in parts of about a window's rows.

        `source` gets the load of a part, the warehouse's schema, and what is left with that part.
        While one part is loaded, most of the next is read.
        """
        left: list[Window] | None = None
        while left is None or left:
            schema = self._next_turn()
            left = left or begin()
            part = Part(left[0], self.settings.window_rows, self._newest_first)
            load = Load(self.settings, self.client, part, self._ahead)
            try:
                extracted = self.pipeline.extract(source(load, schema, left))
            finally:
                self._ahead = load.reading
            if not load.rest:
                self._ahead = None
            left = _left_after(left, load)
            self._commit(extracted, load)

    def _next_turn(self) -> dlt.Schema:
        """Hold the dataset for one window, beginning with the state and schema it has by now.

        It is kept from window to window, until another run wants it.
        """
        raise_if_signalled()
        if self._has_turn and self._turns.is_wanted():
            self.close()
        if not self._has_turn:
            self._turn.enter_context(self._turns.turn())
            self._has_turn = True
        if self._enrollments:
            give_back(self.pipeline)
        else:
            hold_down(self.pipeline)
        return start_over(self.pipeline)

    def _commit(self, extracted: ExtractInfo, load: Load) -> None:
        """Load one window: its rows and its progress stand together, or neither."""
        self.pipeline.normalize()
        # dlt extracts a package of nothing where nothing has changed.
        loaded = self._write() if self.pipeline.has_pending_data else set()
        # It takes a working folder that vanished for one in which nothing waits.
        if packages_with_rows(extracted) - loaded:
            raise LoadFailed(
                "Files of the window that was under way vanished from the working folder"
                f" {self.pipeline.working_dir}, so it was not committed.",
                "Nothing is lost: see to it that nothing removes files of a run and run it again.",
            )
        if isinstance(self.pipeline.collector, WindowProgress):
            self.pipeline.collector.window_done(load.left)
        self._enrollments += load.enrollments

    def _write(self) -> set[str]:
        self._keep_turn()
        loaded = self.pipeline.load()
        try:
            self._keep_turn()
        except LoadFailed:
            take_back(self.pipeline, loaded.loads_ids)
            raise
        keep_indexed(self.pipeline)
        return set(loaded.loads_ids)

    def _keep_turn(self) -> None:
        # Without it another run may have emptied or filled the tables that rows are merged from.
        if not self._turns.is_held():
            raise LoadFailed(
                "The connection that held the dataset for this run was lost, so the window that"
                " was under way was not committed.",
                "Nothing is lost: run it again, it goes on from there.",
            )

    def report(self, command: str, **said: Any) -> Report:
        """Return what the whole run did."""
        return Report(
            command=command,
            pipeline=self.pipeline.pipeline_name,
            destination=self.pipeline.destination.destination_name,
            dataset=self.pipeline.dataset_name,
            enrollments=self._enrollments,
            requests=self.client.requests,
            cursor=cursor(self.pipeline, cursor_name(self.settings)),
            quarantined=quarantined(self.pipeline),
            seconds=time.monotonic() - self._started,
            **said,
        )


class _Backfill:
    """A range to reload, and how far it got: kept in the state, with the rows, until it is done."""

    def __init__(
        self, since: datetime, until: datetime | None, settings: Settings, *, newest_first: bool
    ) -> None:
        self.resumed_from: datetime | None = None
        self._since = since
        self._until = until
        self._end = since
        self._newest_first = newest_first
        filters = [f"{name}={value}" for name, value in settings.filters]
        ends = [rfc3339(since), rfc3339(until) if until else "now"]
        self._name = " ".join([*ends, *filters, *(["newest first"] if newest_first else [])])

    @property
    def is_in_future(self) -> bool:
        """Whether nothing of the range has happened yet."""
        return self._end < self._since

    def begin(self, run: _Run, *, restart: bool) -> list[Window]:
        """Return what is left to load: the whole range, or the rest of an unfinished backfill.

        The rest reaches up to now as well: a row that was still to come may have moved there.
        """
        now = run.client.server_time(ENROLLMENT_LIST)
        self._end = min(self._until or now, now)
        known = state_of(run.pipeline).get("backfills", {}).get(self._name)
        if not known or restart:
            return [Window(self._since, self._end)]
        end, *left = ([kept_instant(at) for at in ends] for ends in known)
        windows = [Window(*ends) for ends in left]
        self.resumed_from = windows[0].before if self._newest_first else windows[0].after
        if not self._newest_first:
            return [Window(windows[0].after, self._end)]
        return [Window(end[0], self._end), *windows] if end[0] < self._end else windows

    def progress(self, left: list[Window]) -> Progress:
        """Return a function that tells the state what will be left after a load."""

        def kept(backfills: Backfills, load: Load) -> Backfills:
            others = {name: ends for name, ends in backfills.items() if name != self._name}
            to_come = _left_after(left, load)
            if not to_come:
                return others
            said: list[list[datetime | None]] = [[self._end]]
            said += [[each.after, each.before] for each in to_come]
            return {**others, self._name: [[at.isoformat() for at in ends if at] for ends in said]}

        return kept


def _left_after(left: list[Window], load: Load) -> list[Window]:
    """Return what is left after the load of a part of the first window that was left."""
    return [load.rest, *left[1:]] if load.rest else left[1:]
