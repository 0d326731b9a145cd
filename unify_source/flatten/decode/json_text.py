"""JSON read and written without loss: numbers keep their digits, text keeps its spelling. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn

import orjson

from unify_source.api.brackets import OPENING, brackets

_INT64 = 1 << 63
# Any whole number of 18 digits fits into 64 bits; of those with 19, some do not.
_SURE_DIGITS = 18


@dataclass(frozen=True)
class Number:
    """A number that Python would write differently, or cannot represent."""

    text: str

    def value(self) -> int | float | None:
        """Return the same number, None if neither 64 bits nor a float can hold its digits."""
        if not set(self.text) & set(".eE"):
            return _whole(self.text)
        value = float(self.text)
        if not isfinite(value):
            return None
        try:
            is_same = Decimal(self.text) == Decimal(repr(value))
        except ArithmeticError:  # an exponent that even Decimal cannot hold
            return None
        return value if is_same else None


def parsed(text: str) -> Any:
    """Read a JSON value; numbers are int and float, or Number where those would lose a character.

    Raises ValueError for anything but JSON. It recurses: check the depth of untrusted text first.
    """
    value, end = _decoder.raw_decode(text)
    if end != len(text):
        raise ValueError(f"Extra data at character {end}")
    return value


def text_of(value: Any) -> str:
    """Write a value that `parsed` returned, in its original order and with its original digits.

    Raises TypeError for text that is not Unicode.
    """
    # Without the option orjson would write a Number as an object with a key `text`.
    return orjson.dumps(value, _fragment, orjson.OPT_PASSTHROUGH_DATACLASS).decode()


def levels(text: bytes) -> int:
    """Return how deep the brackets of a JSON text are nested."""
    depth = deepest = 0
    for at in brackets(text):
        depth += 1 if text[at] in OPENING else -1
        deepest = max(deepest, depth)
    return deepest


def _whole(text: str) -> int | None:
    # Python refuses thousands of digits, which 64 bits cannot hold either.
    value = int(text) if len(text) <= _SURE_DIGITS + 2 else _INT64
    return value if -_INT64 <= value < _INT64 else None


def _int(text: str) -> int | Number:
    # As an int, -0 would lose its sign.
    if len(text) <= _SURE_DIGITS and text != "-0":
        return int(text)
    value = _whole(text)
    return value if value and str(value) == text else Number(text)


def _float(text: str) -> float | Number:
    value = float(text)
    # Python's repr is the shortest text that reads back as the same float. If the API wrote it
    # differently, as 1.10 or 1E3 or with too many digits, its text is kept.
    return value if repr(value) == text else Number(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError


_decoder = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_no_constant)
