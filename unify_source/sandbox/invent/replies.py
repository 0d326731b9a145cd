"""Replies and their classifications by the API."""

from random import Random

from unify_source.sandbox.invent import words
from unify_source.sandbox.invent.chance import pick, uuid
from unify_source.sandbox.invent.rows import Document

CATEGORIES = ("POSITIVE", "NEUTRAL", "NEGATIVE", "AUTOMATED")
LONG_SUBJECT = "Re: " + "all that was ever said before, quoted, " * 300

_COUNTS = (0, 1, 1, 1, 1, 1, 2, 2, 3, 4)
_NO_SUBJECT = 0.04
_ODD_SUBJECT = 0.06
# In the reference, `subject` and `received_at` may be null, so some have to be.
_NO_TIME = 0.05


def reply(rng: Random, received_at: str) -> Document:
    """Return a reply with zero to four classifications; subject and time can be null."""
    return {
        "id": uuid(rng),
        "subject": None if rng.random() < _NO_SUBJECT else _subject(rng),
        "classifications": [classification(rng) for _ in range(pick(_COUNTS, rng))],
        "received_at": None if rng.random() < _NO_TIME else received_at,
    }


def classification(rng: Random) -> Document:
    """Return one classification."""
    return {"id": uuid(rng), "category": pick(CATEGORIES, rng)}


def _subject(rng: Random) -> str:
    if rng.random() < _ODD_SUBJECT:
        return pick(words.ODD_TEXTS, rng)
    return pick(words.TOPICS, rng).format(pick(words.COMPANIES, rng)[0])
