"""A run's own working folder, and its copy for dlt's commands."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path

import dlt

from unify_source.common.dlt_seam import default_pipelines_dir
from unify_source.common.temporary import temporary_folder

# Rows that were loaded, which dlt's commands do not need.
_LOADED_ROWS = "completed_jobs"
_PENDING = ("normalize/extracted", "normalize/loaded", "load/normalized")

_log = logging.getLogger(__name__)


def folder_of_this_process() -> str:
    """Make a folder that is removed at exit; remove those of processes that died."""
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    return until_exit.enter_context(temporary_folder())


def keep_for_dlt(pipeline: dlt.Pipeline, pipelines_dir: str | None) -> None:
    """Copy the working folder to where `dlt pipeline` looks for it: state, schema and trace.

    Each run works in a folder of its own, because two in one folder would disturb each other. A
    folder there that still has something to load, or cannot be written, is left alone.
    """
    target = Path(pipelines_dir or default_pipelines_dir()) / pipeline.pipeline_name
    if any(any((target / name).glob("*")) for name in _PENDING):
        return
    copy = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        shutil.copytree(pipeline.working_dir, copy, ignore=_without_rows)
        shutil.rmtree(target, ignore_errors=True)
        copy.rename(target)
    except OSError as error:
        _log.info("The working folder was not kept for dlt's commands: %s", error)
        with suppress(OSError):
            shutil.rmtree(copy)


def _without_rows(folder: str, names: list[str]) -> list[str]:
    return names if Path(folder).name == _LOADED_ROWS else []
