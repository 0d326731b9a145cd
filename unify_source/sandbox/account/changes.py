"""What happens during a sales team's day, one change at a time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from unify_source.sandbox.account.instants import stamp
from unify_source.sandbox.invent import cast, words
from unify_source.sandbox.invent.chance import pick, uuid
from unify_source.sandbox.invent.replies import CATEGORIES, classification, reply
from unify_source.sandbox.invent.rows import FLAGS, Document

_TRIES = 40
_NEW_PERSON = 0.5
# The API has no limit; with four, a reply can gain some and lose others at the same time.
_MOST_CLASSIFICATIONS = 4
LIVE = ("DRAFT", "IN_PROGRESS")


@dataclass(frozen=True)
class Change:
    """New versions of rows, and (kind, id, values) of entities renamed in the same step."""

    documents: Sequence[Document] = ()
    renames: Sequence[tuple[str, str, Document]] = ()


class NoSuchRowError(Exception):
    """No row was found for what was about to happen."""


class Team:
    """People at work: `sample` returns any row or None, `people` counts the persons so far."""

    def __init__(
        self, sample: Callable[[Random], Document | None], people: Callable[[], int], rng: Random
    ) -> None:
        self.rng = rng
        self.people = people
        self._sample = sample

    def change(self, us: int) -> Change:
        """Return a change at an instant, which is the `updated_at` of all its rows.

        Empty if nothing can be changed, as in an empty account.
        """
        for _ in range(_TRIES):
            with suppress(NoSuchRowError):
                change = pick(_HAPPENINGS, self.rng)(self, stamp(us))
                for document in change.documents:
                    document["updated_at"] = stamp(us)
                return change
        return Change()

    def find(self, wanted: Callable[[Document], bool] = lambda _: True) -> Document:
        """Return a row that matches; raise `NoSuchRowError` if a few tries find none."""
        for _ in range(_TRIES):
            row = self._sample(self.rng)
            if row and wanted(row):
                return row
        raise NoSuchRowError


def new_name(rng: Random) -> str:
    """Return another name for a sequence."""
    title = words.SEQUENCE.format(pick(words.CAMPAIGNS, rng), pick(words.SEGMENTS, rng))
    return f"{title} ({rng.getrandbits(16):04x})"


def upgraded(rows: Sequence[Document], sequence: Document, at: str, rng: Random) -> list[Document]:
    """Return live rows as canceled, and for each of them a new one in a new sequence."""
    changed: list[Document] = []
    for row in rows:
        if row.get("status") in LIVE:
            # The API never removes a canceled enrollment from its list: it keeps it, with this
            # flag. A draft that is canceled has no `started_at`.
            over = {"status": "FINISHED", "is_canceled": True, "is_paused": False}
            changed.append({**row, **over, "ended_at": at, "updated_at": at})
            changed.append({**_draft(row, at, rng), "sequence": sequence, "updated_at": at})
    return changed


def _draft(like: Document, at: str, rng: Random) -> Document:
    """Return a new enrollment that nests the same entities as another."""
    nothing_yet = {"reply_email_message": None, "started_at": None, "ended_at": None}
    new = {"id": uuid(rng), "created_at": at, "status": "DRAFT"}
    return {**like, **new, **nothing_yet, **dict.fromkeys(FLAGS, False)}


def _reply_arrives(team: Team, at: str) -> Change:
    row = team.find(_awaits_reply)
    _give_reply(row, reply(team.rng, at), at)
    return Change([row])


def _reply_vanishes(team: Team, _at: str) -> Change:
    row = team.find(_has_reply)
    _take_reply(row)
    return Change([row])


def _reply_moves(team: Team, at: str) -> Change:
    """Move a reply to the enrollment that it belongs to, as if the matching was corrected."""
    giver, taker = team.find(_has_reply), team.find(_awaits_reply)
    # Both rows change, and a client may read them in either order, or in two windows: the reply
    # must not be deleted with the enrollment that it has left.
    _give_reply(taker, _take_reply(giver), at)
    return Change([giver, taker])


def _classification_added(team: Team, _at: str) -> Change:
    row = team.find(lambda row: _has_reply(row) and len(_classes(row)) < _MOST_CLASSIFICATIONS)
    _classes(row).append(classification(team.rng))
    return Change([row])


def _classification_removed(team: Team, _at: str) -> Change:
    row = team.find(_is_classified)
    _classes(row).remove(pick(_classes(row), team.rng))
    return Change([row])


def _recategorised(team: Team, _at: str) -> Change:
    row = team.find(_is_classified)
    chosen = pick(_classes(row), team.rng)
    others = [category for category in CATEGORIES if category != chosen["category"]]
    chosen["category"] = pick(others, team.rng)
    return Change([row])


def _started(team: Team, at: str) -> Change:
    row = team.find(lambda row: row["status"] == "DRAFT")
    row |= {"status": "IN_PROGRESS", "started_at": at}
    return Change([row])


def _pause_toggled(team: Team, _at: str) -> Change:
    row = team.find(_is_running)
    row["is_paused"] = not row["is_paused"]
    return Change([row])


def _ended(team: Team, at: str) -> Change:
    row = team.find(_is_running)
    reason = pick(("is_bounced", "is_opted_out", "is_canceled", ""), team.rng)
    row |= {"status": "FINISHED", "ended_at": at, "is_paused": False}
    if reason:
        row[reason] = True
    return Change([row])


def _enrolled(team: Team, at: str) -> Change:
    """Enroll a known or new person in a sequence that already has enrollments."""
    like, known = team.find(), team.find()
    person = known["person"]
    if team.rng.random() < _NEW_PERSON:
        person = cast.person(team.people(), team.rng, uuid(team.rng))
    return Change([{**_draft(like, at, team.rng), "person": person}])


def _person_renamed(team: Team, _at: str) -> Change:
    row = team.find()
    values: Document = {"last_name": pick(words.LAST_NAMES, team.rng)[0]}
    return Change([row], [("person", row["person"]["id"], values)])


def _sequence_renamed(team: Team, _at: str) -> Change:
    row = team.find()
    return Change([row], [("sequence", row["sequence"]["id"], {"name": new_name(team.rng)})])


def _has_reply(row: Document) -> bool:
    return isinstance(row["reply_email_message"], dict)


def _awaits_reply(row: Document) -> bool:
    return row["reply_email_message"] is None and row["started_at"] is not None


def _is_running(row: Document) -> bool:
    return bool(row["status"] == "IN_PROGRESS")


def _is_classified(row: Document) -> bool:
    return _has_reply(row) and bool(_classes(row))


def _classes(row: Document) -> list[Document]:
    classes: list[Document] = row["reply_email_message"]["classifications"]
    return classes


def _give_reply(row: Document, message: Document, at: str) -> None:
    row |= {"reply_email_message": message, "is_replied": True, "status": "FINISHED"}
    row["ended_at"] = row["ended_at"] or at


def _take_reply(row: Document) -> Document:
    message: Document = row["reply_email_message"]
    row |= {"reply_email_message": None, "is_replied": False}
    return message


_HAPPENINGS = (
    _reply_arrives,
    _reply_arrives,
    _reply_vanishes,
    _reply_moves,
    _classification_added,
    _classification_removed,
    _recategorised,
    _started,
    _pause_toggled,
    _ended,
    _enrolled,
    _enrolled,
    _person_renamed,
    _sequence_renamed,
)
