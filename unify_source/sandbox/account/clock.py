"""The server's time: real, or simulated by a test."""

import threading
import time
from datetime import datetime, timedelta, timezone


class Clock:
    """A source of aware UTC times in microseconds, real unless `start` is given.

    A simulated clock stands still between requests; each request moves it by `tick`. Thread-safe.
    """

    def __init__(self, start: datetime | None = None, tick: timedelta = timedelta(0)) -> None:
        self._tick = tick
        self._lock = threading.Lock()
        self._now = start.astimezone(timezone.utc) if start else None
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        with self._lock:
            return self._now or datetime.now(timezone.utc) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move the clock by `by`; a real clock then stays that far from the machine's."""
        with self._lock:
            if self._now:
                self._now += by
            else:
                # A clock that is off stays off by the same time, and goes on.
                self._ahead += by

    def count_request(self) -> None:
        """Move a simulated clock by its tick; a real clock moves by itself."""
        if self._now:
            self.advance(self._tick)

    def reach(self, moment: datetime) -> None:
        """Return once `now()` is at least `moment`: a simulated clock jumps, a real one waits."""
        while (missing := moment - self.now()) > timedelta(0):
            if self._now:
                self.advance(missing)
            else:
                time.sleep(missing.total_seconds())
