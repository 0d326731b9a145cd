"""The request budget that all workers share, and the pace that a server's 429 teaches."""

from __future__ import annotations

import threading
import time
from collections import deque

BUDGET_SECONDS = 300.0

# How the pace grows in a second: after the first 429 to find the limit, after the second to measure
# it, then hardly at all, for every further 429 costs the pause that the server asks for.
_GROWTH = (16.0, 1.1, 1.0025)
_BELOW_LIMIT = 0.96
_MEASURED_SECONDS = 1.0
_CALM_SECONDS = 20.0
_SLOWEST = 5.0


class RequestBudget:
    """At most `limit` requests in any five minutes, and no faster than the server takes them.

    Shared by all threads. A 429 stops them all for as long as the server says, then they go on at
    the pace at which it answered before, and grow back.
    """

    def __init__(self, limit: int) -> None:
        self._sent: deque[float] = deque(maxlen=limit)
        self._answered: deque[float] = deque(maxlen=10_000)
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._next_at = 0.0
        self._pace: float | None = None
        self._refusals = 0
        self._refused_at = -_MEASURED_SECONDS
        self._paced_at = 0.0

    def wait(self) -> None:
        """Return when the next request may be sent."""
        while (seconds := self._seconds_to_wait()) > 0:
            time.sleep(min(seconds, 1.0))

    def answered(self) -> None:
        """Count a request that the server took."""
        self._answered.append(time.monotonic())

    def refused(self, seconds: float | None) -> None:
        """Slow all workers down: the server answered 429, and asked for so many seconds."""
        now = time.monotonic()
        with self._lock:
            # What was in flight when the first was refused is refused as well.
            is_same_burst = now < max(self._paused_until, self._refused_at + _MEASURED_SECONDS)
            self._paused_until = max(self._paused_until, now + (seconds or 0.0))
            if is_same_burst:
                return
            self._refusals += 1
            self._refused_at = now
            self._pace = max(_SLOWEST, _BELOW_LIMIT * self._measured(now))
            self._paced_at = self._next_at = self._paused_until

    def _measured(self, now: float) -> float:
        recent = [at for at in self._answered if at > now - _MEASURED_SECONDS]
        return len(recent) / max(now - recent[0], 0.05) if recent else 0.0

    def _seconds_to_wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            free_at = self._paused_until
            if len(self._sent) == self._sent.maxlen:
                free_at = max(free_at, self._sent[0] + BUDGET_SECONDS)
            if self._pace is not None:
                free_at = max(free_at, self._next_at)
            if free_at <= now:
                self._sent.append(now)
                self._grow(now)
            return free_at - now

    def _grow(self, now: float) -> None:
        if self._pace is None:
            return
        growth = _GROWTH[min(self._refusals, len(_GROWTH)) - 1]
        if now - self._refused_at > _CALM_SECONDS:
            growth = max(growth, _GROWTH[1])
        self._pace *= growth ** (now - self._paced_at)
        self._paced_at = now
        self._next_at = max(self._next_at, now - 0.05) + 1 / self._pace
