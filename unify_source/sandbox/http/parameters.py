"""Turns the parameters of a request into a query, and refuses all that the API refuses."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from unify_source.sandbox.account import instants
from unify_source.sandbox.account.query import Query

Pairs = list[tuple[str, str]]
Problem = dict[str, Any]

STATUSES = ("DRAFT", "IN_PROGRESS", "FINISHED")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
# The reference documents 1 to 100, but no default.
_MOST_PER_PAGE = 100


class RefusedError(Exception):
    """A request that the API answers with 400; `problems` names each invalid parameter."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(str(problems))
        self.problems = problems


class _BadValueError(Exception):
    """An invalid value for a parameter; its text is the error's code."""


def query(pairs: Pairs, start: Query) -> Query:
    """Return the list's initial query `start` with the parameters of a request.

    Parameters that this list does not have are ignored. Raises `RefusedError` with every problem.
    """
    # Whether the API refuses unknown names is not documented; most servers ignore them, so that a
    # mistyped filter lists everything.
    pairs = [(name, value) for name, value in pairs if name in PARAMETERS[start.listing]]
    problems = [_problem("duplicate_parameter", name) for name in _repeated(pairs)]
    values: dict[str, Any] = {}
    given = dict(reversed(pairs))
    for name, read in _READERS.items():
        try:
            if name in given:
                values[name] = read(given[name])
        except _BadValueError as bad:
            problems.append(_problem(str(bad), name))
    # The only parameter that may repeat, according to the reference.
    statuses = [value for name, value in pairs if name == "status"]
    if not set(statuses) <= set(STATUSES):
        problems.append(_problem("invalid_enum_value", "status"))
    if problems:
        raise RefusedError(problems)
    asked = replace(start, status=frozenset(statuses), **values)
    if "cursor" not in given:
        return asked
    if resumed := asked.behind(given["cursor"]):
        return resumed
    raise RefusedError([_problem("invalid_cursor", "cursor")])


def listed_id(text: str) -> str:
    """Return the id in a path as the API writes it; raise `RefusedError` if it is not a UUID."""
    try:
        return _uuid(text)
    except _BadValueError as bad:
        raise RefusedError([_problem(str(bad), "id")]) from bad


def _problem(code: str, name: str) -> Problem:
    return {"code": code, "path": [name]}


def _repeated(pairs: Pairs) -> list[str]:
    names = [name for name, _ in pairs]
    return [name for name in ("cursor", *_READERS) if names.count(name) > 1]


def _limit(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _BadValueError("invalid_integer")
    if not 1 <= int(text) <= _MOST_PER_PAGE:
        raise _BadValueError("out_of_range")
    return int(text)


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise _BadValueError("invalid_uuid")
    return text.lower()


def _after(text: str) -> int:
    return _instant(instants.parse(text, up=True))


def _before(text: str) -> int:
    return _instant(instants.parse(text))


def _instant(us: int | None) -> int:
    if us is None:
        raise _BadValueError("invalid_datetime")
    return us


_READERS: dict[str, Callable[[str], int | str]] = {
    "limit": _limit,
    "sequence_id": _uuid,
    "person_id": _uuid,
    "mailbox_id": _uuid,
    "enrolled_by_play_id": _uuid,
    "updated_after": _after,
    "updated_before": _before,
}
PARAMETERS = {
    "enrollments": ("cursor", "status", *_READERS),
    "sequences": ("cursor", "limit"),
}
