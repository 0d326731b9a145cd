"""What a pipeline keeps in its folder and its state, and how to watch its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import signature
from typing import Any

import dlt
from dlt.common import logger as dlt_logger
from dlt.common.pipeline import get_dlt_pipelines_dir as default_pipelines_dir
from dlt.common.runtime.signals import intercepted_signals, raise_if_signalled
from dlt.common.storages.load_package import PackageStorage
from dlt.common.time import increasing_precise_time
from dlt.pipeline import trace as dlt_trace
from dlt.pipeline.state_sync import force_state_extract, load_pipeline_state_from_destination

from unify_source.common.dlt_seam.clients import quick_clients
from unify_source.common.temporary import temporary_folder

__all__ = [
    "default_pipelines_dir",
    "force_state_extract",
    "intercepted_signals",
    "load_pipeline_state_from_destination",
    "raise_if_signalled",
]


@contextmanager
def looking_at(pipeline: dlt.Pipeline) -> Iterator[dlt.Pipeline]:
    """Yield a pipeline on the same dataset, with an empty working folder that is deleted later.

    The pipeline's own folder may have packages that are still to be loaded.
    """
    with temporary_folder() as folder:
        looking: dlt.Pipeline = dlt.pipeline(
            pipeline.pipeline_name,
            pipelines_dir=folder,
            destination=pipeline.destination,
            dataset_name=pipeline.dataset_name,
        )
        try:
            with quick_clients(looking):
                yield looking
        finally:
            # dlt regards the pipeline that was created last as active, and would continue with
            # this one.
            pipeline.activate()


def empty_working_folder(pipeline: dlt.Pipeline) -> None:
    """Empty a pipeline's working folder, except for the place of a DuckDB file without a path."""
    # That is the folder in which the pipeline first ran, not the one in which it runs today.
    folder = pipeline.get_local_state_val("initial_cwd")
    pipeline.drop()
    pipeline.set_local_state_val("initial_cwd", folder)


def resource_state(source_state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a resource stores between runs, from the state of its source."""
    kept: dict[str, Any] = source_state.get("resources", {}).get(name, {})
    return kept


def load_after(load_id: str) -> None:
    """Let every later load of this process have a greater id than this one."""
    clock = increasing_precise_time
    # An id that is not a time is not dlt's, and is ignored.
    with suppress(ValueError), clock._lock:  # noqa: SLF001 - dlt has no way to set it forward
        clock._last = max(clock._last, float(load_id))  # noqa: SLF001


def watch_steps(module: Any) -> None:
    """Notify a module of each step of every pipeline, before dlt writes its trace."""
    if module not in dlt_trace.TRACKING_MODULES:
        # As the first: later ones may send the trace elsewhere.
        dlt_trace.TRACKING_MODULES.insert(0, module)


class BeforeStep:
    """For `watch_steps`: calls a function with the pipeline before each step of that name.

    The step "extract" begins before its load gets an id.
    """

    def __init__(self, step: str, call: Callable[[Any], None]) -> None:
        self._step, self._call = step, call

    def on_start_trace_step(self, _trace: Any, step: str, pipeline: Any) -> None:
        """Handle the start of a step."""
        if step == self._step:
            self._call(pipeline)

    def on_start_trace(self, *_: Any) -> None:
        """Ignore all other events."""

    on_end_trace_step = on_end_trace = on_start_trace


def clean_job_messages(clean: Callable[[str], str]) -> None:
    """Pass what dlt writes about a failed job through `clean` first, in this process."""
    for name in ("fail_job", "retry_job", "save_pending_transition"):
        write = getattr(PackageStorage, name)
        setattr(PackageStorage, name, _cleaned(getattr(write, "__wrapped__", write), clean))


def _cleaned(write: Callable[..., Any], clean: Callable[[str], str]) -> Callable[..., Any]:
    takes = signature(write)

    @wraps(write)
    def cleaned(*args: Any, **kwargs: Any) -> Any:
        given = takes.bind(*args, **kwargs)
        if message := given.arguments.get("failed_message"):
            given.arguments["failed_message"] = clean(message)
        return write(*given.args, **given.kwargs)

    return cleaned


def dlt_log() -> logging.Logger | None:
    """Return dlt's logger, None before the first pipeline."""
    return dlt_logger.LOGGER
