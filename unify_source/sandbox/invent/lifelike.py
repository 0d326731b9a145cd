"""Enrollments as a busy sales team would have them, the same for the same seed."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

from unify_source.sandbox.account.history import Span, rounded, updates
from unify_source.sandbox.account.instants import stamp
from unify_source.sandbox.invent.cast import Cast, Cells
from unify_source.sandbox.invent.chance import dice, pick, uuid
from unify_source.sandbox.invent.replies import LONG_SUBJECT, reply
from unify_source.sandbox.invent.rows import FLAGS, Entities, Row, encode

# Rare, but in every account of some size: a subject of 12,000 characters.
_LONG_SUBJECT_EVERY = 4000
_FIRST_LONG_SUBJECT = 7


class Outcome(NamedTuple):
    """A state of an enrollment, and how many of a hundred are in it."""

    weight: int
    status: str
    flags: tuple[str, ...] = ()
    is_started: bool = True


# Of the two together a mailbox has as many as any other, but each its own share of bounces.
FINISHED, BOUNCED = Outcome(30, "FINISHED"), Outcome(2, "FINISHED", ("is_bounced",))
OUTCOMES = (
    Outcome(8, "DRAFT", is_started=False),
    Outcome(30, "IN_PROGRESS"),
    Outcome(4, "IN_PROGRESS", ("is_paused",)),
    Outcome(2, "IN_PROGRESS", ("is_replied",)),
    Outcome(11, "FINISHED", ("is_replied",)),
    Outcome(2, "FINISHED", ("is_opted_out", "is_replied")),
    FINISHED,
    BOUNCED,
    Outcome(3, "FINISHED", ("is_opted_out",)),
    Outcome(5, "FINISHED", ("is_canceled",)),
    # Finished but never started: nothing in the reference rules it out.
    Outcome(1, "FINISHED", ("is_blocked",), is_started=False),
    Outcome(2, "FINISHED", ("is_excluded",), is_started=False),
)


def enrollments(size: int, seed: int, span: Span) -> tuple[list[Row], Entities]:
    """Return `size` rows and those of `span.one_instant`, unsorted, and their shared entities."""
    rng = dice(seed, size)
    instants = updates(size, span, rng)
    cast = Cast(size, rng)
    scribe = Scribe(span, rng, cast.bounced)
    rows = [scribe.row(us, cast.cells(number)) for number, us in enumerate(instants)]
    return rows, cast.entities


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause garbage collection, which would visit all rows again and again as they are created."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Scribe:
    """Writes rows for the instants of their last updates."""

    def __init__(self, span: Span, rng: Random, bounced: Mapping[str, int]) -> None:
        self._rng = rng
        self._longest = span.longest
        self._replies = 0
        # For each mailbox a die with a hundred sides, each with the state as JSON.
        self._outcomes = {name: _die(percent) for name, percent in bounced.items()}

    def row(self, updated: int, cells: Cells) -> Row:
        """Return a row that was last updated at an instant; all its other times are earlier."""
        rng = self._rng
        outcome, standing = pick(self._outcomes[cells[2].id], rng)
        # Most enrollments change soon after their creation, and a few live for months.
        age = int(self._longest * rng.random() ** 3)
        created = rounded(updated - age, rng.random())
        name = uuid(rng)
        answer = self._reply(updated - age // 20) if "is_replied" in outcome.flags else "null"
        start = self._not_before(created, created + age // 10) if outcome.is_started else created
        started = f'"{stamp(start)}"' if outcome.is_started else "null"
        is_over = outcome.status == "FINISHED"
        ended = f'"{stamp(self._not_before(start, updated - age // 50))}"' if is_over else "null"
        head = f'{{"id":"{name}","created_at":"{stamp(created)}","updated_at":"{stamp(updated)}"'
        times = f'"started_at":{started},"ended_at":{ended}'
        tail = f',"reply_email_message":{answer},{standing},{times}}}'
        return Row(name, (created, updated), outcome.status, head.encode(), cells, tail.encode())

    def _not_before(self, earliest: int, us: int) -> int:
        return max(earliest, rounded(us, self._rng.random()))

    def _reply(self, received: int) -> str:
        answer = reply(self._rng, stamp(rounded(received, self._rng.random())))
        if self._replies % _LONG_SUBJECT_EVERY == _FIRST_LONG_SUBJECT:
            answer["subject"] = LONG_SUBJECT
        self._replies += 1
        return encode(answer).decode()


def _die(bounced: int) -> list[tuple[Outcome, str]]:
    more = bounced - BOUNCED.weight
    weights = {BOUNCED: bounced, FINISHED: FINISHED.weight - more}
    return [
        (outcome, standing)
        for outcome in OUTCOMES
        for standing in [_standing(outcome)] * weights.get(outcome, outcome.weight)
    ]


def _standing(outcome: Outcome) -> str:
    flags = {flag: flag in outcome.flags for flag in FLAGS}
    return encode({"status": outcome.status, **flags}).decode()[1:-1]
