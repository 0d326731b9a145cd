"""The request budget that all workers share, and the pace learned from a server's 429."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

BUDGET_SECONDS = 300.0

# Over less than this, a server's steady rate cannot be told from the burst that it lets pass.
_SHORTEST, _LONGEST = 1.0, 3.0
_BELOW_LIMIT = 0.97
_SLOWEST, _FASTEST = 5.0, 10_000.0
# The pace's growth per second: fast until it has been measured, then hardly any, because another
# 429 costs the pause that the server asks for. After a calm while more: the limit may have risen.
_GROWTH = (4.0, 1.05, 1.001)
_RECOVERING, _CALM_SECONDS = 1.02, 30.0
_LONGEST_STEP = 1.0


class RequestBudget:
    """At most `limit` requests in any five minutes, and no faster than the server accepts them.

    Shared by all threads. A 429 stops them all for as long as the server asks; then they continue
    a little slower than it answered before, and speed up again.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # An instant for each request, up to 100,000. A counter that is reset every five minutes
        # would let twice the budget through around each reset.
        self._sent: deque[float] = deque(maxlen=limit)
        self._answered: deque[float] = deque(maxlen=10_000)
        self._lock = threading.Lock()
        self._pace: float | None = None
        self._measured = 0
        self._paced_at = self._next_at = 0.0
        self._paused_until = self._begun_at = self._refused_at = float("-inf")

    def wait(self) -> None:
        """Return when the next request may be sent."""
        while (seconds := self.seconds_to_wait()) > 0:
            time.sleep(min(seconds, 1.0))

    def seconds_to_wait(self) -> float:
        """Return 0 and count a request as sent, or return how long to wait before asking again."""
        with self._lock:
            now = self._clock()
            free_at = self._paused_until
            if len(self._sent) == self._sent.maxlen:
                free_at = max(free_at, self._sent[0] + BUDGET_SECONDS)
            if self._pace is not None:
                free_at = max(free_at, self._next_at)
            if free_at > now:
                return free_at - now
            self._sent.append(now)
            if self._begun_at == float("-inf"):
                self._begun_at = now
            self._grow(now)
            return 0.0

    def answered(self) -> None:
        """Count a request that the server accepted."""
        with self._lock:
            self._answered.append(self._clock())

    def refused(self, seconds: float | None) -> None:
        """Slow all workers down: the server answered 429, and asked for this pause."""
        with self._lock:
            now = self._clock()
            # Requests that were in flight at the first 429 get one too.
            is_same_burst = now < max(self._paused_until, self._refused_at + _SHORTEST)
            self._paused_until = max(self._paused_until, now + (seconds or 0.0))
            if not is_same_burst:
                self._refused_at = now
                self._pace = max(_SLOWEST, self._taken_per_second(now))
            self._begun_at = self._paced_at = max(now, self._paused_until)
            # Never earlier than the pace allows: a server may refuse without asking for a pause.
            self._next_at = max(self._next_at, self._begun_at)

    def _taken_per_second(self, now: float) -> float:
        span = min(now - self._begun_at, _LONGEST if self._measured else _SHORTEST)
        answered = [at for at in self._answered if at > self._begun_at]
        if span < _SHORTEST:
            return max(len(answered) / _SHORTEST, (self._pace or 0.0) / 2)
        # The best stretch counts: a server that stalled for a moment can take more than the mean.
        ends = (bisect_right(answered, at + span) for at in answered)
        taken = max((end - place for place, end in enumerate(ends)), default=0)
        self._measured += 1
        return _BELOW_LIMIT * taken / span

    def _grow(self, now: float) -> None:
        if self._pace is None:
            return
        growth = _GROWTH[min(self._measured, len(_GROWTH) - 1)]
        if now - self._refused_at > _CALM_SECONDS:
            growth = max(growth, _RECOVERING)
        # Until the server has accepted a request again, nothing shows that it takes more.
        if self._answered and self._answered[-1] > self._begun_at:
            # At most one step: a client that was idle for an hour has not tested a higher pace.
            self._pace *= growth ** min(now - self._paced_at, _LONGEST_STEP)
            self._pace = min(self._pace, _FASTEST)
        self._paced_at = now
        self._next_at = max(self._next_at, now - 0.05) + 1 / self._pace
