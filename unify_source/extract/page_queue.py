"""Passes pages from the threads that read them to the one that decodes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from unify_source.common.settings.limits import wide_bytes

BATCH_BYTES = 8 << 20
# An API is often faster than a merge: without a limit a slow destination would fill the memory.
MOST_BYTES = 4 * BATCH_BYTES
# For pages read ahead, which wait until the current load ends. Compressed, they would take a
# quarter of the memory, but compression costs a twentieth of a run's CPU time.
AHEAD_BYTES = 12 * BATCH_BYTES
_OLDEST_PAGE_SECONDS = 2.0


class PageQueue:
    """Takes pages from any thread and yields them in batches to one; holds about `MOST_BYTES`.

    With `ahead`, until `ask` is called, it holds about `AHEAD_BYTES` and at most that many pages.
    `rows` and `wide_bytes`, the bytes that make rows wide, count the pages that were yielded.
    """

    def __init__(self, ahead: int | None = None) -> None:
        self.rows = self.wide_bytes = 0
        self._ahead = ahead
        self._is_asked_for = False
        self._pages: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._since = 0.0
        self._error: Exception | None = None
        self.has_ended = False
        self._closed = False
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)

    @property
    def is_full(self) -> bool:
        """Whether `put` would wait."""
        if self._is_asked_for or self._ahead is None:
            return self._bytes >= MOST_BYTES
        return self._bytes >= AHEAD_BYTES or len(self._pages) >= self._ahead

    def ask(self) -> None:
        """Lift the limit on reading ahead: the pages are needed now."""
        with self._lock:
            self._is_asked_for = True
            self._drained.notify_all()

    def put(self, page: bytes, rows: int) -> None:
        """Add a page with its number of rows, once there is room; after `close` it is dropped."""
        with self._lock:
            while self.is_full and not self._closed:
                self._drained.wait()
            if self._closed:
                return
            if not self._pages:
                self._since = time.monotonic()
            self._pages.append((page, rows))
            self._bytes += len(page)
            if self._bytes >= BATCH_BYTES:
                self._filled.notify()

    def end(self) -> None:
        """Note that all pages have been put."""
        with self._lock:
            self.has_ended = True
            self._filled.notify()

    def close(self, error: Exception | None = None) -> None:
        """End all waiting: further pages are dropped, and `batches` raises the error."""
        with self._lock:
            self._closed = True
            # The first error is the cause; those of other workers often follow from it.
            self._error = self._error or error
            self._filled.notify()
            self._drained.notify_all()

    def batches(self, heartbeat: Callable[[], None]) -> Iterator[list[bytes]]:
        """Yield batches of about `BATCH_BYTES`, or of what arrived in two seconds, until the end.

        Raises a reader's error at once, even if pages are left. Calls `heartbeat` twice a second.
        """
        self.ask()
        while True:
            heartbeat()
            with self._lock:
                if not self._is_due():
                    # Never wait without a timeout: dlt's signal handler only sets a flag, which the
                    # heartbeat checks.
                    self._filled.wait(0.5)
                if self._error:
                    raise self._error
                if not self._is_due():
                    continue
                if not self._pages:
                    return
                batch = self._taken()
            yield batch
            # Eight megabytes, which would wait here for those after them.
            del batch

    def _is_due(self) -> bool:
        is_old = bool(self._pages) and time.monotonic() > self._since + _OLDEST_PAGE_SECONDS
        return self._bytes >= BATCH_BYTES or self.has_ended or is_old or bool(self._error)

    def _taken(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._pages and size < BATCH_BYTES:
            page, rows = self._pages.popleft()
            batch.append(page)
            size += len(page)
            self.rows += rows
            self.wide_bytes += wide_bytes(len(page), rows)
        self._bytes -= size
        self._since = time.monotonic()
        self._drained.notify_all()
        return batch
