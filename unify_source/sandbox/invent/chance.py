"""Random picks, the same on every version of Python: by `random()` and `getrandbits()` alone."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def dice(*seed: object) -> Random:
    """Return a source of picks that is the same for the same seed."""
    return Random("/".join(map(str, seed)))  # noqa: S311 # to be repeated, not to keep a secret


def pick(choices: Sequence[T], rng: Random) -> T:
    """Return one of the choices."""
    # Not `choice` or `randrange`, whose algorithms Python may change: a seed must give the same
    # account on each version.
    return choices[int(rng.random() * len(choices))]


def uuid(rng: Random) -> str:
    """Return a random UUID (version 4)."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
