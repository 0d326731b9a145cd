"""The answers of the models, counted slowly in Python from rows as the API shows them.

Written from the definitions on the page, not from the SQL. Fractions round as a person does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

from unify_source.common.times import parse_instant

Row = dict[str, Any]
Rows = list[Row]
Answer = list[tuple[Any, ...]]

_WINS = ("NEGATIVE", "POSITIVE", "NEUTRAL", "AUTOMATED")
_YOUNG = timedelta(days=7 + 28)


class ByHand:
    """An account's enrollments and sequences, and the answers computed from them."""

    def __init__(self, rows: Rows, sequences: Rows) -> None:
        self.rows = rows
        self.sequences = sequences
        self.questions: dict[str, Callable[[], Answer]] = {
            "fct_enrollments": self.fct_enrollments,
            "funnel_totals": self.funnel_totals,
            "sequence_funnel": self.sequence_funnel,
            "cohort_weekly": self.cohort_weekly,
            "time_to_reply": self.time_to_reply,
            "mailbox_health": self.mailbox_health,
            "play_attribution": self.play_attribution,
            "last_touch": self.last_touch,
            "sequence_lineage": self.sequence_lineage,
        }

    def fct_enrollments(self) -> Answer:
        return [
            (
                *(row["id"], row["sequence"]["id"], row["sequence"]["name"]),
                *(row["person"]["id"], row["mailbox"]["id"], *_play(row)),
                *map(instant, (row["created_at"], row["started_at"])),
                *map(instant, (row["ended_at"], row["updated_at"])),
                *(row.get("status"), display_status(row)),
                *(is_started(row), row["is_bounced"], is_delivered(row)),
                *(row["is_opted_out"], row["is_canceled"], has_reply(row), category(row)),
                *_flags(row),
                *(instant(_reply(row).get("received_at")), days_to_reply(row)),
            )
            for row in self.rows
        ]

    def funnel_totals(self) -> Answer:
        return [funnel(self.rows)]

    def sequence_funnel(self) -> Answer:
        enrolled = grouped(self.rows, lambda row: row["sequence"]["id"])
        return [
            (s["id"], s["name"], s["is_paused"], *funnel(enrolled.get(s["id"], [])))
            for s in self.sequences
        ]

    def cohort_weekly(self) -> Answer:
        newest = max(_known(row["updated_at"]) for row in self.rows)
        weeks = grouped(filter(is_started, self.rows), _week)
        return [
            (
                week,
                _midnight(week) + _YOUNG > newest,
                True
                if _midnight(week) + _YOUNG <= _midnight(date(2026, 4, 1))
                else (False if week >= date(2026, 5, 1) else None),
                *funnel(rows),
            )
            for week, rows in weeks.items()
        ]

    def time_to_reply(self) -> Answer:
        answer: Answer = []
        for key, rows in grouped(self.rows, lambda row: row["sequence"]["id"]).items():
            human = [row for row in rows if is_delivered(row) and _flags(row)[0]]
            waits = sorted(days for row in human if (days := days_to_reply(row)) is not None)
            counts = funnel(rows)
            answer.append(
                (
                    *(key, rows[0]["sequence"]["name"]),
                    *(counts[4], len(human), counts[8], len(waits)),
                    *(_at(waits, Fraction(1, 2)), _at(waits, Fraction(9, 10))),
                )
            )
        return answer

    def mailbox_health(self) -> Answer:
        answer: Answer = []
        for rows in grouped(self.rows, lambda row: row["mailbox"]["id"]).values():
            box, counts = max(rows, key=_updated)["mailbox"], funnel(rows)
            bounces = counts[1] >= 20 and (counts[10] or 0) >= 5
            concerns = (
                (box["is_unauthorized"], "not authorized"),
                (bounces, "bounces"),
                (box["is_paused"], "paused"),
                (True, None),
            )
            rank, concern = next((n, what) for n, (holds, what) in enumerate(concerns, 1) if holds)
            begun = [at for row in rows if (at := instant(row["started_at"]))]
            answer.append(
                (
                    *(box["id"], box["email"], box["display_name"]),
                    *(box["is_paused"], box["is_unauthorized"], max(begun, default=None)),
                    *(*counts, rank, concern),
                )
            )
        return answer

    def play_attribution(self) -> Answer:
        answer: Answer = []
        for (play, name), rows in grouped(self.rows, _play).items():
            is_older = rows[0].get("status") is None
            shown = name or (None if is_older else "(no play)")
            people = {row["person"]["id"] for row in rows}
            answer.append((play, shown, len(people), *funnel(rows)))
        return answer

    def last_touch(self) -> Answer:
        answer: Answer = []
        for rows in grouped(self.rows, lambda row: row["person"]["id"]).values():
            last = max(rows, key=_latest)
            person = last["person"]
            human = [row for row in rows if _flags(row)[0]]
            replied = [at for row in human if (at := instant(_reply(row).get("received_at")))]
            answer.append(
                (
                    *(person[key] for key in ("id", "email", "first_name", "last_name")),
                    *(instant(last["started_at"]), last["id"], last["sequence"]["name"]),
                    *(last["mailbox"]["email"], _play(last)[1], display_status(last)),
                    *(len(rows), sum(map(is_started, rows)), len(human)),
                    *(sum(_flags(row)[3] is True for row in rows), max(replied, default=None)),
                    any_of(row["is_opted_out"] for row in rows),
                )
            )
        return answer

    def sequence_lineage(self) -> Answer:
        answer: Answer = []
        for name, rows in grouped(self.rows, lambda row: row["sequence"]["name"]).items():
            people = grouped(rows, lambda row: row["person"]["id"])
            sequences = {row["sequence"]["id"] for row in rows}
            answer.append((name, len(sequences), len(rows), *_funnel_of(list(people.values()))))
        return answer


def funnel(rows: Rows) -> tuple[Any, ...]:
    """Return the counts of a funnel, and then its rates."""
    return _funnel_of([[row] for row in rows])


def _funnel_of(people: list[Rows]) -> tuple[Any, ...]:
    """Return the funnel of people, each with the rows that count as one."""
    started = [rows for rows in people if any(map(is_started, rows))]
    reached = [any_of(map(is_delivered, rows)) for rows in started]
    delivered = [rows for rows, is_reached in zip(started, reached, strict=True) if is_reached]
    judged = [
        [
            any_of(all_of(is_delivered(row), flag) for row, flag in zip(rows, of, strict=True))
            for of in zip(*map(_of_delivered, rows), strict=True)
        ]
        for rows in delivered
    ]
    replied, opted_out = ([each[place] for each in judged] for place in (0, 1))
    flags = [each[2:] for each in judged]
    human, positive, automated, unclassified = (
        sum(flag[place] is True for flag in flags) for place in range(4)
    )
    bounced, unknown = reached.count(False), [flag[0] for flag in flags].count(None)
    return (
        *(len(people), len(started), bounced, len(delivered), replied.count(True)),
        *(human, positive, automated, unclassified, opted_out.count(True)),
        percent(bounced, len(started), reached.count(None)),
        percent(human, len(delivered), unknown),
        percent(positive, len(delivered), unknown),
        percent(opted_out.count(True), len(delivered), opted_out.count(None)),
    )


def any_of(values: Iterable[bool | None]) -> bool | None:
    """Return whether any is true; None if none is, but some are unknown."""
    known = list(values)
    return True if True in known else None if None in known else False


def all_of(*values: bool | None) -> bool | None:
    """Return whether all are true; None if none is false, but some are unknown."""
    return False if False in values else None if None in values else True


def percent(part: int, whole: int, unknown: int) -> float | None:
    """Return a rate to one decimal; None if it is unknown."""
    if not whole or (not part and unknown):
        return None
    return _rounded(Fraction(100 * part, whole), 10)


def is_started(row: Row) -> bool:
    return row["started_at"] is not None


def is_delivered(row: Row) -> bool | None:
    if not is_started(row):
        return False
    return None if row["is_bounced"] is None else not row["is_bounced"]


def has_reply(row: Row) -> bool | None:
    return any_of((bool(row["reply_email_message"]), row["is_replied"]))


def category(row: Row) -> str | None:
    known = {one.get("category") for one in _reply(row).get("classifications", [])}
    return next((wins for wins in _WINS if wins in known), None)


def display_status(row: Row) -> str | None:
    words = (
        (row["is_opted_out"], "Opted out"),
        (row["is_bounced"], "Bounced"),
        (has_reply(row) and category(row) != "AUTOMATED", "Replied"),
        (row["is_canceled"], "Canceled"),
        (row["is_blocked"], "Blocked"),
        (row["is_excluded"], "Excluded"),
        (row["is_paused"] and row.get("status") == "IN_PROGRESS", "Paused"),
    )
    status: str | None = row.get("status")
    default = status.replace("_", " ").capitalize() if status else None
    return next((word for holds, word in words if holds), default)


def days_to_reply(row: Row) -> float | None:
    start, received = instant(row["started_at"]), instant(_reply(row).get("received_at"))
    if not start or not received or received < start:
        return None
    return _rounded(Fraction((received - start) // timedelta(microseconds=1), 86_400_000_000), 100)


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def instant(text: str | None) -> datetime | None:
    at = parse_instant(text) if text else None
    return at.astimezone(timezone.utc) if at else None


def _known(text: str) -> datetime:
    at = instant(text)
    assert at
    return at


def _order(text: str | None) -> datetime:
    return instant(text) or datetime.min.replace(tzinfo=timezone.utc)


def _latest(row: Row) -> tuple[datetime, datetime, str]:
    return _order(row["started_at"]), _order(row["created_at"]), row["id"]


def _updated(row: Row) -> datetime:
    return _known(row["updated_at"])


def _flags(row: Row) -> tuple[bool | None, ...]:
    """Return whether the reply is human, positive, automated, and unclassified; None if unknown."""
    wins, replied = category(row), has_reply(row)
    if replied is False:
        return False, False, False, False
    if wins is None:
        return None, None, None, replied
    return wins != "AUTOMATED", wins == "POSITIVE", wins == "AUTOMATED", False


def _of_delivered(row: Row) -> tuple[bool | None, ...]:
    return has_reply(row), row["is_opted_out"], *_flags(row)


def _reply(row: Row) -> Row:
    return row["reply_email_message"] or {}


def _play(row: Row) -> tuple[str | None, str | None]:
    play = row.get("enrolled_by_play") or {}
    return play.get("id"), play.get("name")


def _week(row: Row) -> date:
    day = _known(row["started_at"]).date()
    return day - timedelta(days=day.weekday())


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _at(waits: list[float], part: Fraction) -> float | None:
    return waits[math.ceil(part * len(waits)) - 1] if waits else None


def _rounded(value: Fraction, per_whole: int) -> float:
    return math.floor(value * per_whole + Fraction(1, 2)) / per_whole
