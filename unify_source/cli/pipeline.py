"""The pipeline that the commands use: its working folder, and its progress on the screen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationException, UnknownDestinationModule
from dlt.common.runtime.collector import NULL_COLLECTOR
from dlt.pipeline.exceptions import InvalidPipelineName

from unify_source.cli.progress import Progress
from unify_source.cli.working_folder import folder_of_this_process
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import MAIN_LIST
from unify_source.runs.windows.progress import WindowProgress

_COUNTED = MAIN_LIST.name
_READING = "Reading pages"
_LONGEST_NAME = 64


def open_pipeline(
    name: str,
    destination: str,
    dataset: str,
    *,
    progress: Progress | None = None,
    credentials: Any = None,
    pipelines_dir: str | None = None,
) -> dlt.Pipeline:
    """Return the pipeline that the commands use, with its progress shown.

    Unless `pipelines_dir` is given, its working folder is removed with the process: all that a
    later run needs is in the destination, and runs that share a folder would disturb each other.
    Raises ConfigurationError for an invalid name, and for a destination that dlt does not know.
    """
    if len(name) > _LONGEST_NAME:
        raise _no_name(name)
    try:
        pipeline: dlt.Pipeline = dlt.pipeline(
            name,
            destination=dlt.destination(destination, credentials=credentials),
            dataset_name=dataset,
            pipelines_dir=pipelines_dir or folder_of_this_process(),
            progress=_Counting(progress, _COUNTED) if progress else NULL_COLLECTOR,
        )
    except InvalidPipelineName:
        raise _no_name(name) from None
    except DestinationException as error:
        raise _no_destination(destination, error) from None
    return pipeline


def _no_name(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"is {name[:_LONGEST_NAME]!r}, which cannot be the name of a folder.",
        f"Use letters, digits and _, at most {_LONGEST_NAME}.",
        setting="pipeline_name",
    )


def _no_destination(name: str, error: DestinationException) -> ConfigurationError:
    if isinstance(error, UnknownDestinationModule) and error.ref == name:
        return ConfigurationError(
            f"is {name!r}, which dlt does not know.",
            "Name one of dlt's destinations, such as duckdb or postgres.",
            setting="destination",
        )
    return ConfigurationError(
        f"is {name!r}, which dlt refuses: {str(error).splitlines()[0].rstrip('.:')}.",
        "dlt also takes a STAGING_TYPE or STAGING_NAME of another program: unset it for this run.",
        setting="destination",
    )


class _Counting(WindowProgress):
    # dlt reports every step and the rows of every table; a person wants to see one table's.
    def __init__(self, progress: Progress, counted: str) -> None:
        self._progress = progress
        self._counted = counted

    def connecting(self, address: str) -> None:
        self._progress.begin(f"Connecting to {address}")

    def began(self, total: timedelta | None) -> None:
        self._progress.now(_READING)
        if total:
            self._progress.range_known(total)

    def expects(self, rows: int) -> None:
        self._progress.rows_expected(rows)

    def window_done(self, left: timedelta) -> None:
        self._progress.window_done(left)

    def doing(self, what: str) -> None:
        self._progress.now(what)

    def rows_read(self, count: int) -> None:
        self._progress.add(count)

    def update(
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        if self.step.startswith("Extract") and name == self._counted:
            self._progress.add(inc)

    def _start(self, step: str) -> None:
        self._progress.now(_READING if step.startswith("Extract") else "Loading")

    def _stop(self) -> None:
        # dlt calls this after each step, but the line stays until the run ends.
        pass
