"""Locks a dataset whose destination has no locks: with a claim, written into it and renewed.

A run writes its claim before it looks for others. So of two runs that begin together, at least one
sees the other and withdraws its claim: the destination needs no compare-and-swap. Clocks differ
between machines, so they do not decide whether an owner lives: a run treats a claim as dead once it
has watched it unchanged for the length of a lease.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from uuid import uuid4

import dlt

from unify_source.destinations.locks.claims import Claim, Claims, claims_in
from unify_source.destinations.locks.life import died_here, forget, living, sweep
from unify_source.destinations.locks.wait import Held, Holder, Legacy, Wait, this_run

LEASE_SECONDS = 45.0
"""How long an unchanged claim counts: less than a run waits by default."""

_BEATS_IN_A_LEASE = 4
_DATASET, _QUEUE = "dataset", "next"


@contextmanager
def leased_turn(pipeline: dlt.Pipeline, wait: Wait, legacy: Legacy) -> Iterator[Held]:
    """Hold a pipeline's dataset by a lease. Raises LockHeld."""
    with claims_in(pipeline) as claims:
        if claims is None:
            yield Held()
            return
        with turn_by_claims(claims, wait, LEASE_SECONDS, legacy) as held:
            yield held


@contextmanager
def turn_by_claims(
    claims: Claims, wait: Wait, seconds: float, legacy: Legacy = lambda _: ""
) -> Iterator[Held]:
    """Hold what the claims are on. A claim that is unchanged for so many seconds is dead."""
    lease, queue = (_Lease(claims, turn, seconds, legacy) for turn in (_DATASET, _QUEUE))

    def pause(first: Holder) -> None:
        holder = next(iter(lease.others()), first)
        wait.pause(lambda: holder, claims.poll_seconds)

    # A waiting run claims the queue: the holder sees it, and lets it go first.
    with ExitStack() as queued:
        if lease.others() or queue.others():
            queued.enter_context(queue.taken(pause))
        with lease.taken(pause):
            queued.close()
            yield Held(lease.is_held, lambda: bool(queue.others()))


class _Lease:
    """The run's claim on a turn, renewed by a thread, beside the claims of others."""

    def __init__(self, claims: Claims, turn: str, seconds: float, legacy: Legacy) -> None:
        self._claims, self._turn, self._seconds, self._legacy = claims, turn, seconds, legacy
        self._name, self._holder, self._left = uuid4().hex, this_run(), list[str]()
        self._watched: dict[str, tuple[int, float]] = {}
        self._ended = threading.Event()

    def others(self) -> list[Holder]:
        """Return the live runs that have or want the turn."""
        return [claim.holder for claim in self._living(self._claims.all())]

    def is_held(self) -> bool:
        """Tell whether this run still has the turn: it has its claim, and no other run has one."""
        try:
            claims = self._claims.all()
        except Exception:  # noqa: BLE001 - whatever the error, the turn is unknown
            return False
        return self._name in claims and all(each.beat <= 0 for each in self._living(claims))

    @contextmanager
    def taken(self, pause: Callable[[Holder], None]) -> Iterator[None]:
        """Hold the turn, after as many pauses as it takes."""
        heart = threading.Thread(target=self._beat, daemon=True, name="unify-source lease")
        try:
            with living(self._name):
                while not self._is_claimed():
                    pause(next(iter(self.others()), {}))
                heart.start()
                try:
                    yield
                finally:
                    self._ended.set()
                    # Its last beat would otherwise restore the claim.
                    heart.join()
        finally:
            self._forget(self._name)
            sweep()

    def _is_claimed(self) -> bool:
        if self.others():
            return False
        # The claim before the look: the other way round, two runs could each see no other, and then
        # both claim.
        self._put(0)
        if self.others():
            self._drop(self._name)
            # For a random time, or two runs would collide forever.
            time.sleep(random.uniform(0, self._claims.poll_seconds))  # noqa: S311 - no secret
            return False
        # From here on, the claim says that this run has the turn. A run that was treated as dead
        # and wakes up sees so before it commits anything.
        self._holder["legacy"] = self._legacy(self._left)
        self._put(1)
        for dead in self._watched:
            self._forget(dead)
        return True

    def _beat(self) -> None:
        beat = 1
        while not self._ended.wait(self._seconds / _BEATS_IN_A_LEASE):
            # If this beat fails, the next one may succeed; others see only the beats that do.
            with suppress(Exception):
                if self._name not in self._claims.all():
                    # It was silent for too long, so another run has taken the turn.
                    return
                beat += 1
                self._put(beat)

    def _living(self, claims: dict[str, Claim]) -> list[Claim]:
        now = time.monotonic()
        others = {
            name: claim
            for name, claim in claims.items()
            if claim.turn == self._turn and name != self._name
        }
        watched = {
            name: self._watched.get(name, (claim.beat, now)) for name, claim in others.items()
        }
        self._watched = {
            name: (beat, since) if others[name].beat == beat else (others[name].beat, now)
            for name, (beat, since) in watched.items()
        }
        living = [
            claim
            for name, claim in others.items()
            if now - self._watched[name][1] < self._seconds and not died_here(name)
        ]
        left = (claim.holder.get("legacy") for claim in others.values() if claim not in living)
        self._left = [text for text in left if text]
        return living

    def _put(self, beat: int) -> None:
        self._claims.put(self._name, Claim(self._turn, beat, self._holder))

    def _drop(self, name: str) -> bool:
        # A claim that remains counts until it has been silent for the length of a lease.
        with suppress(Exception):
            return self._claims.drop(name)
        return False

    def _forget(self, name: str) -> None:
        # If the claim remains, the next run on this machine sees that its process has ended.
        if self._drop(name):
            forget(name)
