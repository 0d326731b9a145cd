"""Commands that are killed at a named point of their work, as by the kernel: nothing is cleaned up.

A process that finds the point in its environment prepares its own end, in the code of the connector
and of dlt that it has imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

AT = "UNIFY_TEST_DIES_AT"

READING = "unify_source.extract.page_queue PageQueue.put"
NORMALIZING = "dlt.normalize.normalize Normalize.spool_files"
LOADING = "dlt.load.load Load.submit_job"
COMMITTING = "dlt.load.load Load.complete_package"
REMOVING = "unify_source.runs.verification.repair remove"
MERGING = "dlt.destinations.sql_client SqlClientBase.execute_many"
"""Between two statements of a merge. All others are reached as a function is called."""

IN_A_LOAD = {READING: 2, NORMALIZING: 1, LOADING: 5, MERGING: 3, COMMITTING: 1}
"""The points that each load of a hundred changes reaches, and how often it does at least."""


def prepare() -> None:
    """Let this process die where its environment says: at a point, the first or a later time."""
    if point := os.environ.get(AT):
        module, path, times = point.split()
        *owners, name = path.split(".")
        owner = import_module(module)
        for inner in owners:
            owner = getattr(owner, inner)
        ends = _dies_in_a_merge if point.startswith(MERGING) else _dies
        setattr(owner, name, ends(getattr(owner, name), int(times)))


def _dies(function: Callable[..., Any], times: int) -> Callable[..., Any]:
    calls = iter(range(1, times))

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            _die()
        return function(*args, **kwargs)

    return counted


def _dies_in_a_merge(execute: Callable[..., Any], times: int) -> Callable[..., Any]:
    merges = iter(range(1, times))

    def counted(client: Any, statements: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        is_merge = any(text.lstrip().startswith("INSERT INTO") for text in statements[1:])
        if is_merge and next(merges, None) is None:
            # It deletes, and inserts last.
            execute(client, statements[:-1], *args, **kwargs)
            _die()
        return execute(client, statements, *args, **kwargs)

    return counted


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
