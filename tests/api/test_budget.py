"""The quota is kept, and used: minutes of requests in simulated time."""

from __future__ import annotations

import heapq
import time
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import pytest

from unify_source.api.budget import BUDGET_SECONDS, RequestBudget
from unify_source.sandbox.http.app import Bucket


class Simulated:
    """Workers that send requests as fast as the budget allows, and a server with a rate limit."""

    def __init__(self, limit: int, rate: float, latency: float, workers: int = 16) -> None:
        self.now = 0.0
        self.sent: list[float] = []
        self.taken = self.refused = 0
        self._budget = RequestBudget(limit, clock=lambda: self.now)
        self.limit_to(rate)
        self._latency = latency
        self._due = [(0.0, worker) for worker in range(workers)]
        self._answers: dict[int, float] = {}

    def limit_to(self, rate: float) -> None:
        self._bucket = Bucket(rate, clock=lambda: self.now)

    def run(self, seconds: float) -> None:
        while self._due[0][0] < seconds:
            self.now, worker = heapq.heappop(self._due)
            heapq.heappush(self._due, (self._step(worker), worker))

    def _step(self, worker: int) -> float:
        """Let one worker do what is next, and return when it wakes."""
        if worker not in self._answers:
            if (wait := self._budget.seconds_to_wait()) > 0:
                return self.now + wait + 1e-6
            self.sent.append(self.now)
            self._answers[worker] = self._bucket.wait()
            return self.now + self._latency
        if (wait := self._answers.pop(worker)) == 0:
            self.taken += 1
            self._budget.answered()
            return self.now
        self.refused += 1
        self._budget.refused(ceil(wait))
        return self.now + ceil(wait)


@pytest.mark.parametrize("latency", [0.002, 0.02])
@pytest.mark.parametrize("rate", [20, 100, 300])
def test_a_server_that_limits_the_rate_is_used_to_nine_tenths_and_hardly_ever_refuses(
    rate: int, latency: float
) -> None:
    simulated = Simulated(100_000, rate, latency)

    simulated.run(60)

    assert simulated.taken >= 0.9 * rate * 60
    assert simulated.refused <= 0.02 * len(simulated.sent)


def test_a_429_before_any_accepted_request_is_obeyed() -> None:
    now = 0.0
    budget = RequestBudget(100_000, clock=lambda: now)
    assert budget.seconds_to_wait() == 0
    now = 1.5

    budget.refused(2.0)

    assert budget.seconds_to_wait() == pytest.approx(2.0)


@pytest.mark.parametrize("asked", [0.0, None, 0.1])
def test_a_server_that_refuses_everything_gets_a_few_requests_a_second(
    asked: float | None,
) -> None:
    now, sent = 0.0, 0
    budget = RequestBudget(100_000, clock=lambda: now)

    while now < 10:
        if budget.seconds_to_wait() == 0:
            sent += 1
            budget.refused(asked)
        now += 0.001

    assert sent <= 60


class Slow(float):
    """An instant that lets other threads run while it is compared."""

    def __gt__(self, other: float) -> bool:
        time.sleep(0.001)
        return float(self) > other


def test_workers_may_be_answered_while_another_is_refused() -> None:
    now = 0.0
    budget = RequestBudget(100_000, clock=lambda: Slow(now))
    budget.seconds_to_wait()
    now = 2.0
    for _ in range(20):
        budget.answered()

    def answered(_: int) -> None:
        for _ in range(20):
            time.sleep(0.001)
            budget.answered()

    with ThreadPoolExecutor(4) as workers:
        answers = workers.map(answered, range(4))
        budget.refused(0.0)
        list(answers)


@pytest.mark.parametrize("measured", [False, True])
def test_the_pace_is_kept_after_a_long_pause(measured: bool) -> None:  # noqa: FBT001
    now = 0.0
    budget = RequestBudget(10_000_000, clock=lambda: now)
    budget.seconds_to_wait()
    budget.answered()
    now = 2.0 if measured else 0.2
    budget.refused(1.0)
    now += 1.5
    assert budget.seconds_to_wait() == 0
    budget.answered()

    for _ in range(1_000):
        now += 600
        assert budget.seconds_to_wait() == 0
        budget.answered()

    assert sum(budget.seconds_to_wait() == 0 for _ in range(2_000)) < 1_000


@pytest.mark.parametrize("still", [0.5, 1.5])
def test_a_server_that_paused_is_not_mistaken_for_a_slow_one(still: float) -> None:
    now = 0.0
    budget = RequestBudget(100_000, clock=lambda: now)

    def ask(rate: float, seconds: float) -> int:
        nonlocal now
        sent, end = 0, now + seconds
        while now < end:
            if budget.seconds_to_wait() == 0:
                sent += 1
                budget.answered()
            now += 1 / rate
        return sent

    ask(100, 2)
    budget.refused(1.0)
    ask(100, 10)
    now += still

    budget.refused(1.0)

    now += 1
    assert ask(1_000, 5) >= 0.94 * 100 * 5


def test_a_raised_limit_is_found_again() -> None:
    simulated = Simulated(100_000, 50, 0.02)
    simulated.run(60)
    simulated.limit_to(200)
    simulated.run(180)
    before = simulated.taken

    simulated.run(240)

    assert simulated.taken - before >= 0.9 * 200 * 60


@pytest.mark.parametrize("limit", [1, 50, 3_000])
def test_no_five_minutes_see_more_requests_than_the_budget(limit: int) -> None:
    simulated = Simulated(limit, 10_000, 0.01)

    simulated.run(1_000)

    sent = simulated.sent
    assert len(sent) == limit * 4
    assert all(b - a >= BUDGET_SECONDS for a, b in zip(sent, sent[limit:], strict=False))
