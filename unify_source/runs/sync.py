"""`sync`: load what changed since the last run."""

from __future__ import annotations

from contextlib import closing

import dlt
from typing_extensions import Unpack

from unify_source.common.settings import LOCK_TIMEOUT, SettingsArguments
from unify_source.extract.window import Window
from unify_source.load.asked.interval import interval_in_environment
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import run_settings
from unify_source.load.ledger.entry import SYNC, Entry
from unify_source.runs.report import Report
from unify_source.runs.windows.run import WindowRun


def sync(
    pipeline: dlt.Pipeline,
    *,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
    **settings: Unpack[SettingsArguments],
) -> Report:
    """Load what changed since the pipeline's last run; the first run loads everything.

    `settings` are those of `unify_source`. Each window of about `window_rows` enrollments is
    committed together with the cursor before the next is loaded, oldest first. If an orchestrator
    sets DLT_INTERVAL_START and DLT_INTERVAL_END, exactly that interval is loaded, and the cursor
    stays. Raises a UnifyError.
    """
    with explained(pipeline):
        interval = interval_in_environment()
        given = run_settings(pipeline, **settings)
        run = WindowRun(
            pipeline,
            given,
            lock_timeout,
            Entry(SYNC, pipeline.pipeline_name, given),
            interval=interval,
            moves_cursors=interval is None,
        )
        with closing(run), run.ledger.open():

            def windows() -> list[Window]:
                now = run.server_time()
                if not interval:
                    # The start is left to the cursor, which is read only under the lock: another
                    # run may move it until then.
                    return [Window(None, now)]
                earliest = max(filter(None, [interval.start, run.settings.start]), default=None)
                return [Window(earliest, min(interval.end or now, now))]

            run.load(windows)
            return run.report("sync")
