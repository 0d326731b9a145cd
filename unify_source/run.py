"""Runs that scripts and schedulers call: `sync`, and what a pipeline's dataset tells of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import dlt
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination.exceptions import DestinationException
from dlt.common.runtime.collector import NULL_COLLECTOR
from dlt.common.runtime.collector_base import Collector
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.pipeline.exceptions import PipelineStepFailed

from unify_source.console import RowProgress
from unify_source.errors import ConfigurationError, LoadFailed, UnifyError
from unify_source.report import Report
from unify_source.source import RESOURCE, SOURCE, configured, cursor_name, unify_source
from unify_source.tables import CURSOR, QUARANTINE, TABLES

ALL = tuple(table.name for table in (*TABLES, QUARANTINE))


def sync(pipeline: dlt.Pipeline, **settings: Any) -> Report:
    """Load all that changed since the pipeline's last run; the first run loads everything.

    `settings` are those of `unify_source`. What an interrupted run left behind is dropped and read
    again, from the state that the destination holds. Raises a UnifyError.
    """
    started = time.monotonic()
    with errors_explained():
        source = unify_source(**settings)
        begin(pipeline)
        pipeline.run(source)
        return Report(
            pipeline=pipeline.pipeline_name,
            destination=pipeline.destination.destination_name,
            dataset=pipeline.dataset_name,
            rows=_rows_written(pipeline),
            requests=_requests(pipeline),
            cursor=cursor(pipeline, cursor_name(configured(**settings))),
            quarantined=quarantined(pipeline),
            seconds=time.monotonic() - started,
        )


def open_pipeline(
    name: str,
    destination: str,
    dataset: str,
    *,
    progress: RowProgress | None = None,
    credentials: Any = None,
    pipelines_dir: str | None = None,
) -> dlt.Pipeline:
    """Return the pipeline that the commands use, with its progress shown.

    Raises ConfigurationError for names that a destination cannot keep apart.
    """
    if destination == "duckdb" and name == dataset:
        raise ConfigurationError(
            f"Pipeline and dataset are both named {name!r}, so DuckDB could not tell its file"
            " from its schema.",
            "Choose another --pipeline-name or --dataset.",
        )
    where = dlt.destination(destination, credentials=credentials) if credentials else destination
    pipeline: dlt.Pipeline = dlt.pipeline(
        name,
        destination=where,
        dataset_name=dataset,
        pipelines_dir=cast("str", pipelines_dir),
        progress=_Counting(progress) if progress else NULL_COLLECTOR,
    )
    return pipeline


class _Counting(Collector):
    # dlt tells every step and table; a person wants to know of enrollments.
    def __init__(self, progress: RowProgress) -> None:
        self._progress = progress

    def update(
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        if self.step.startswith("Extract") and name == RESOURCE:
            self._progress.add(inc)

    def _start(self, step: str) -> None:
        pass

    def _stop(self) -> None:
        self._progress.close()


def begin(pipeline: dlt.Pipeline) -> None:
    """Bring the pipeline to the state that its destination holds.

    A package left by a run that died may be older than what another machine has loaded since, so it
    is not resumed: the cursor in the destination knows what has been loaded.
    """
    if pipeline.has_pending_data:
        pipeline.drop()
    pipeline.sync_destination()


def cursor(pipeline: dlt.Pipeline, name: str = CURSOR) -> datetime | None:
    """Return how far a pipeline has loaded, None before the first load."""
    resources = pipeline.state.get("sources", {}).get(SOURCE, {}).get("resources", {})
    value = resources.get(RESOURCE, {}).get("incremental", {}).get(name, {}).get("last_value")
    return value if isinstance(value, datetime) else None


def quarantined(pipeline: dlt.Pipeline) -> int:
    """Return how many rows stand in quarantine, from any run."""
    return row_counts(pipeline, (QUARANTINE.name,)).get(QUARANTINE.name, 0)


def row_counts(pipeline: dlt.Pipeline, names: tuple[str, ...] = ALL) -> dict[str, int]:
    """Return the rows of the tables that exist in the dataset."""
    counts: dict[str, int] = {}
    with pipeline.sql_client() as client:
        for name in names:
            try:
                table = client.make_qualified_table_name(name)
                found = client.execute_sql(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - our names
            except DatabaseUndefinedRelation:
                continue
            counts[name] = int(found[0][0]) if found else 0
    return counts


@contextmanager
def errors_explained() -> Iterator[None]:
    """Turn what dlt raises into a UnifyError that says what to do next."""
    try:
        yield
    except UnifyError:
        raise
    except ConfigurationException as error:
        raise _misconfigured(error) from error
    except (PipelineStepFailed, DestinationException) as error:
        raise _explained(error) from error


def _explained(error: BaseException) -> UnifyError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, UnifyError):
            return cause
        if isinstance(cause, ConfigurationException):
            return _misconfigured(cause)
    return LoadFailed(
        f"The load failed: {_first_line(causes[-1])}.",
        "Nothing is lost: mend the destination and run it again; --verbose shows the whole story.",
    )


def _misconfigured(error: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"The configuration is incomplete or wrong: {_first_line(error)}.",
        "Set it in .dlt/config.toml, .dlt/secrets.toml or the environment.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error is not None:
        yield error
        nested = getattr(error, "exception", None)
        error = nested if isinstance(nested, BaseException) else error.__cause__  # type: ignore[assignment]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".:")


def _rows_written(pipeline: dlt.Pipeline) -> dict[str, int]:
    trace = pipeline.last_trace
    written = trace.last_normalize_info.row_counts if trace and trace.last_normalize_info else {}
    return {table.name: written.get(table.name, 0) for table in (*TABLES, QUARANTINE)}


def _requests(pipeline: dlt.Pipeline) -> int:
    info = pipeline.last_trace.last_extract_info if pipeline.last_trace else None
    metrics = [step for steps in info.metrics.values() for step in steps] if info else []
    return sum(
        getattr(resource, "custom_metrics", {}).get("requests", 0)
        for step in metrics
        for resource in step["resource_metrics"].values()
    )
