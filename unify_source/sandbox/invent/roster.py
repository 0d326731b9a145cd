"""The users, send schedules and rulesets that an account's sequences share."""

from random import Random
from typing import NamedTuple

from unify_source.sandbox.account.instants import DAY, stamp
from unify_source.sandbox.invent import words
from unify_source.sandbox.invent.chance import dice, pick, uuid
from unify_source.sandbox.invent.rows import Document

_YEAR = 365 * DAY
_USERS = 5
_NO_SCHEDULE = 0.15
_NO_RULESET = 0.1

_MORNING, _AFTERNOON, _ALL_DAY = ((9, 0), (12, 0)), ((13, 30), (17, 0)), ((8, 0), (18, 45))
_WEEKDAYS = ("1", "2", "3", "4", "5")
_SUNDAY_TO_THURSDAY = ("7", "1", "2", "3", "4")


class Details(NamedTuple):
    """What a listed sequence has besides its name: schedule and ruleset can be null."""

    owner: Document
    send_schedule: Document | None
    sequence_ruleset: Document | None


class Roster:
    """Five users, three send schedules and three rulesets; the same for the same seed.

    All of them are older than `before`, in microseconds.
    """

    def __init__(self, seed: int, before: int) -> None:
        rng = dice("roster", seed)
        self._users = [_user(at, uuid(rng)) for at in range(_USERS)]
        self._schedules = [
            {**_shared(rng, before), "is_default": not at, "name": name, "rules": rules}
            for at, (name, rules) in enumerate(_RULES.items())
        ]
        user_id = self._users[0]["id"]
        self._rulesets = [
            {
                **_shared(rng, before),
                "name": name,
                "is_default": not at,
                **_assigned(rules, user_id),
            }
            for at, (name, rules) in enumerate(_RULESETS.items())
        ]

    def details(self, sequence_id: str) -> Details:
        """Return the details of the sequence with this id, which are always the same."""
        rng = dice("sequence", sequence_id)
        return Details(
            pick(self._users, rng),
            None if rng.random() < _NO_SCHEDULE else pick(self._schedules, rng),
            None if rng.random() < _NO_RULESET else pick(self._rulesets, rng),
        )


def _user(at: int, user_id: str) -> Document:
    first, slug = words.FIRST_NAMES[-1 - 3 * at]
    last, last_slug = words.LAST_NAMES[3 * at]
    is_nameless = at == _USERS - 1
    return {
        "id": user_id,
        "email": f"{slug.split()[0]}.{last_slug}@acme.example.com",
        "first_name": None if is_nameless else first,
        "last_name": None if is_nameless else last,
    }


def _shared(rng: Random, before: int) -> Document:
    created = before - int(_YEAR * (1 + rng.random()))
    updated = before - int(_YEAR * rng.random())
    return {"id": uuid(rng), "created_at": stamp(created), "updated_at": stamp(updated)}


def _assigned(rules: Document, user_id: str) -> Document:
    """Set a user if tasks are assigned to a single one, and only then."""
    kinds = ("automatic_enrollment_task_assignment", "manual_enrollment_task_assignment")
    users = {
        f"{kind}_user_id": user_id if rules[kind] == "ASSIGN_TO_USER" else None for kind in kinds
    }
    return {**rules, **users}


def _send_days(open_days: tuple[str, ...], *windows: tuple[tuple[int, int], ...]) -> Document:
    opened = [
        {
            "start_time": {"hour": start[0], "minute": start[1]},
            "end_time": {"hour": end[0], "minute": end[1]},
        }
        for start, end in windows
    ]
    return {day: opened if day in open_days else None for day in "1234567"}


_RULES: dict[str, Document] = {
    "Business hours": {
        "time_zone": "America/New_York",
        "send_days": _send_days(_WEEKDAYS, _ALL_DAY),
        "skip_us_holidays": True,
        "excluded_dates": [],
    },
    "EMEA, closed at noon 🥪": {
        "time_zone": "Europe/Berlin",
        "send_days": _send_days(_WEEKDAYS, _MORNING, _AFTERNOON),
        "skip_us_holidays": False,
        "excluded_dates": [{"date": "2026-12-24", "should_recur": True}, {"date": "2026-05-14"}],
    },
    "Sunday to Thursday": {
        "time_zone": "Asia/Jerusalem",
        "send_days": _send_days(_SUNDAY_TO_THURSDAY, _MORNING),
        "skip_us_holidays": False,
        "excluded_dates": [{"date": "2026-09-21", "should_recur": False}],
    },
}
_RULESETS: dict[str, Document] = {
    "Default": {
        "automatic_enrollment_task_assignment": "ASSIGN_TO_MAILBOX_OWNER",
        "manual_enrollment_task_assignment": "ASSIGN_TO_ENROLLER",
        "opt_out_message": None,
        "allow_same_sequence_reenrollment": False,
        "block_reenrollment_value": 90,
        "block_reenrollment_units": "DAY",
    },
    "Enterprise": {
        "automatic_enrollment_task_assignment": "ASSIGN_TO_USER",
        "manual_enrollment_task_assignment": "ASSIGN_TO_MAILBOX_OWNER",
        "opt_out_message": 'Not for you? Reply "stop", and we stop. 🙏',
        "allow_same_sequence_reenrollment": True,
        "block_reenrollment_value": None,
        "block_reenrollment_units": None,
    },
    "Tasks to sales ops": {
        "automatic_enrollment_task_assignment": "ASSIGN_TO_USER",
        "manual_enrollment_task_assignment": "ASSIGN_TO_USER",
        "opt_out_message": "",
        "allow_same_sequence_reenrollment": False,
        "block_reenrollment_value": 2,
        "block_reenrollment_units": "MONTH",
    },
}
