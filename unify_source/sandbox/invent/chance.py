"""Random picks, equal in every version of Python: only from `random()` and `getrandbits()`."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def dice(*seed: object) -> Random:
    """Return a random source that is the same for the same seed."""
    return Random("/".join(map(str, seed)))  # noqa: S311 # to be repeated, not to keep a secret


def pick(choices: Sequence[T], rng: Random) -> T:
    """Return one of the choices."""
    # Not `choice` or `randrange`, whose algorithms may change: a seed must produce the same account
    # in every version of Python.
    return choices[int(rng.random() * len(choices))]


def uuid(rng: Random) -> str:
    """Return a random UUID (version 4)."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
