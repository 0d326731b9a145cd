"""Pages on their way from the threads that read them to the one that decodes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

BATCH_BYTES = 8 << 20
AHEAD_BYTES = 4 * BATCH_BYTES
_OLDEST_PAGE_SECONDS = 2.0


class Arrivals:
    """A queue of pages that comes out in batches, and holds about `AHEAD_BYTES` at most.

    `put`, `end` and `close` may be called by any thread, `batches` by one.
    """

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._pages: deque[bytes] = deque()
        self._bytes = 0
        self._since = 0.0
        self._error: BaseException | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)

    def put(self, page: bytes) -> None:
        """Add a page, once there is room; after `close` it is dropped."""
        with self._lock:
            while self._bytes >= AHEAD_BYTES and not self._closed:
                self._drained.wait()
            if not self._pages:
                self._since = time.monotonic()
            self._pages.append(page)
            self._bytes += len(page)
            if self._bytes >= BATCH_BYTES:
                self._filled.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that one reader has ended, because nothing is left or by an error."""
        with self._lock:
            self._readers -= 1
            self._error = self._error or error
            self._filled.notify()

    def close(self) -> None:
        """Let no reader wait any longer: nobody takes the pages."""
        with self._lock:
            self._closed = True
            self._drained.notify_all()

    def batches(self, heartbeat: Callable[[], None]) -> Iterator[list[bytes]]:
        """Yield batches of about `BATCH_BYTES`, or of what came in two seconds, until all ended.

        Raises a reader's error at once, whatever pages are left. Calls `heartbeat` twice a second.
        """
        while True:
            heartbeat()
            with self._lock:
                if not self._is_due():
                    self._filled.wait(0.5)
                if self._error:
                    raise self._error
                if not self._is_due():
                    continue
                if not self._pages:
                    return
                batch = self._taken()
            yield batch

    def _is_due(self) -> bool:
        is_old = bool(self._pages) and time.monotonic() > self._since + _OLDEST_PAGE_SECONDS
        return self._bytes >= BATCH_BYTES or not self._readers or is_old or bool(self._error)

    def _taken(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._pages and size < BATCH_BYTES:
            batch.append(self._pages.popleft())
            size += len(batch[-1])
        self._bytes -= size
        self._since = time.monotonic()
        self._drained.notify_all()
        return batch
