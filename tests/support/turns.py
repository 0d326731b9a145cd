"""Runs that meet on one dataset, at moments that a test chooses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from dlt.common.runtime.collector import NullCollector
from filelock import FileLock, Timeout

from unify_source.runs.windows.progress import WindowProgress
from unify_source.sandbox import Fault, Sandbox


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so, which it has to be within a minute."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def readers() -> list[str]:
    """Return the names of the threads of this process that read pages."""
    return [each.name for each in threading.enumerate() if each.name.startswith("page-")]


def is_queued_for(file: str) -> bool:
    """Tell whether a run waits for its turn on a DuckDB file."""
    try:
        with FileLock(f"{file}.lock.next").acquire(timeout=0):
            return False
    except Timeout:
        return True


def answers_once(is_so: Callable[[], bool]) -> Callable[[Any], None]:
    """Return what a sandbox does on a request: it holds back the first until something is so."""
    held: list[Any] = []

    def answer(request: Any) -> None:
        if not held:
            held.append(request)
            wait_until(is_so)

    return answer


class FailsAfterAWindow(NullCollector, WindowProgress):
    """The progress of a run whose API refuses every request once a window has been committed."""

    def __init__(self, api: Sandbox) -> None:
        super().__init__()
        self._api = api

    def window_done(self, left: object) -> None:
        """Begin to refuse."""
        del left
        self._api.arm(Fault("400"))
