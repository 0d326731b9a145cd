"""The lock of a dataset whose destination has none: a claim that is written into it and renewed.

A run writes its claim first and looks for others afterwards. Of two runs that begin together at
least one therefore sees the other, and takes its claim back: the destination need not compare and
swap. No clock says whether an owner lives, for clocks differ from machine to machine: a run that
has watched a claim for the length of a lease, and has not seen it change, takes it for dead.
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
from unify_source.destinations.locks.wait import Held, Holder, Wait, this_run

LEASE_SECONDS = 45.0
"""How long a claim counts that does not change: less than the time a run waits by default."""

_BEATS_IN_A_LEASE = 4
_DATASET, _QUEUE = "dataset", "next"


@contextmanager
def leased_turn(pipeline: dlt.Pipeline, wait: Wait) -> Iterator[Held]:
    """Hold a pipeline's dataset by a lease. Raises LockHeld."""
    with claims_in(pipeline) as claims:
        if claims is None:
            yield Held()
            return
        with turn_by_claims(claims, wait, LEASE_SECONDS) as held:
            yield held


@contextmanager
def turn_by_claims(claims: Claims, wait: Wait, seconds: float) -> Iterator[Held]:
    """Hold what the claims are on. A claim that is silent for so many seconds counts no more."""
    lease, queue = (_Lease(claims, turn, seconds) for turn in (_DATASET, _QUEUE))

    def pause(first: Holder) -> None:
        holder = next(iter(lease.others()), first)
        wait.pause(lambda: holder, claims.poll_seconds)

    # A waiting run holds the queue, so that the holder sees it and lets it go first.
    with ExitStack() as queued:
        if lease.others() or queue.others():
            queued.enter_context(queue.taken(pause))
        with lease.taken(pause):
            queued.close()
            yield Held(lease.is_held, lambda: bool(queue.others()))


class _Lease:
    """A claim of this run on a turn, kept alive by a thread, beside those of others."""

    def __init__(self, claims: Claims, turn: str, seconds: float) -> None:
        self._claims, self._turn, self._seconds = claims, turn, seconds
        self._name, self._holder = uuid4().hex, this_run()
        self._watched: dict[str, tuple[int, float]] = {}
        self._ended = threading.Event()

    def others(self) -> list[Holder]:
        """Return who else has, or wants, the turn and lives."""
        return [claim.holder for claim in self._living(self._claims.all())]

    def is_held(self) -> bool:
        """Tell whether this run still has the turn: its claim stands, and nobody else's has it."""
        try:
            claims = self._claims.all()
        except Exception:  # noqa: BLE001 - whatever it was, nothing is known of the turn
            return False
        return self._name in claims and all(each.beat <= 0 for each in self._living(claims))

    @contextmanager
    def taken(self, pause: Callable[[Holder], None]) -> Iterator[None]:
        """Have the turn, after as many pauses as it takes."""
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
                    # Its last beat would otherwise write the claim again.
                    heart.join()
        finally:
            self._forget(self._name)
            sweep()

    def _is_claimed(self) -> bool:
        if self.others():
            return False
        # First the claim and then the look: the other way round, two runs could each see nobody and
        # then both claim.
        self._put(0)
        if self.others():
            self._drop(self._name)
            # Of different length, or two runs would go on like this for ever.
            time.sleep(random.uniform(0, self._claims.poll_seconds))  # noqa: S311 - no secret
            return False
        # From now on it says that this run has the turn. One that was taken for dead, and wakes,
        # sees so before it commits anything.
        self._put(1)
        for dead in self._watched:
            self._forget(dead)
        return True

    def _beat(self) -> None:
        beat = 1
        while not self._ended.wait(self._seconds / _BEATS_IN_A_LEASE):
            # What fails now may succeed with the next beat, and others see whether it does.
            with suppress(Exception):
                if self._name not in self._claims.all():
                    # It was silent for too long, and another run has taken the turn.
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
        return [
            claim
            for name, claim in others.items()
            if now - self._watched[name][1] < self._seconds and not died_here(name)
        ]

    def _put(self, beat: int) -> None:
        self._claims.put(self._name, Claim(self._turn, beat, self._holder))

    def _drop(self, name: str) -> bool:
        # A claim that stays counts until it has been silent for the length of a lease.
        with suppress(Exception):
            return self._claims.drop(name)
        return False

    def _forget(self, name: str) -> None:
        # Where its claim stays, the next run on this machine sees that its process has ended.
        if self._drop(name):
            forget(name)
