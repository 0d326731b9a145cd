"""What happens in a sales team's day, one change at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from unify_source.sandbox import cast, words
from unify_source.sandbox.chance import pick, uuid
from unify_source.sandbox.instants import stamp
from unify_source.sandbox.replies import CATEGORIES, classification, reply
from unify_source.sandbox.rows import FLAGS, Document

_TRIES = 40
_NEW_PERSON = 0.5
_MOST_CLASSIFICATIONS = 4
LIVE = ("DRAFT", "IN_PROGRESS")


@dataclass(frozen=True)
class Change:
    """New versions of rows, and (kind, id, values) of entities renamed in the same step."""

    documents: Sequence[Document] = ()
    renames: Sequence[tuple[str, str, Document]] = ()


class Team:
    """People at work: `sample` gives any row or None, `people` counts the persons known so far."""

    def __init__(
        self, sample: Callable[[Random], Document | None], people: Callable[[], int], rng: Random
    ) -> None:
        self.rng = rng
        self.people = people
        self._sample = sample

    def change(self, us: int) -> Change:
        """Return a change made at an instant: each row in it has that `updated_at`.

        Empty where nothing can be changed, as in an empty account.
        """
        for _ in range(_TRIES):
            change = pick(_HAPPENINGS, self.rng)(self, stamp(us))
            if change.documents:
                for document in change.documents:
                    document["updated_at"] = stamp(us)
                return change
        return Change()

    def find(self, wanted: Callable[[Document], bool] = lambda _: True) -> Document | None:
        """Return a row that is as wanted, if a few tries find one."""
        for _ in range(_TRIES):
            found = self._sample(self.rng)
            if found and wanted(found):
                return found
        return None


def new_name(rng: Random) -> str:
    """Return another name for a sequence."""
    title = words.SEQUENCE.format(pick(words.CAMPAIGNS, rng), pick(words.SEGMENTS, rng))
    return f"{title} ({rng.getrandbits(16):04x})"


def upgraded(rows: Sequence[Document], sequence: Document, at: str, rng: Random) -> list[Document]:
    """Return rows canceled, where they are live, and for each a new one in a new sequence."""
    changed: list[Document] = []
    for row in rows:
        if row.get("status") in LIVE:
            over = {"status": "FINISHED", "is_canceled": True, "is_paused": False}
            changed.append({**row, **over, "ended_at": at, "updated_at": at})
            changed.append({**_draft(row, at, rng), "sequence": sequence, "updated_at": at})
    return changed


def _draft(like: Document, at: str, rng: Random) -> Document:
    """Return a new enrollment with the people and things of another."""
    nothing_yet = {"reply_email_message": None, "started_at": None, "ended_at": None}
    new = {"id": uuid(rng), "created_at": at, "status": "DRAFT"}
    return {**like, **new, **nothing_yet, **dict.fromkeys(FLAGS, False)}


def _reply_arrives(team: Team, at: str) -> Change:
    found = team.find(_awaits_reply)
    if not found:
        return Change()
    _give_reply(found, reply(team.rng, at), at)
    return Change([found])


def _reply_vanishes(team: Team, _at: str) -> Change:
    found = team.find(_has_reply)
    if not found:
        return Change()
    _take_reply(found)
    return Change([found])


def _reply_moves(team: Team, at: str) -> Change:
    """Move a reply to the enrollment it belongs to, as when the matcher corrects itself."""
    giver, taker = team.find(_has_reply), team.find(_awaits_reply)
    if not giver or not taker:
        return Change()
    _give_reply(taker, _take_reply(giver), at)
    return Change([giver, taker])


def _classification_added(team: Team, _at: str) -> Change:
    found = team.find(lambda row: _has_reply(row) and len(_classes(row)) < _MOST_CLASSIFICATIONS)
    if not found:
        return Change()
    _classes(found).append(classification(team.rng))
    return Change([found])


def _classification_removed(team: Team, _at: str) -> Change:
    found = team.find(_is_classified)
    if not found:
        return Change()
    _classes(found).remove(pick(_classes(found), team.rng))
    return Change([found])


def _recategorised(team: Team, _at: str) -> Change:
    found = team.find(_is_classified)
    if not found:
        return Change()
    chosen = pick(_classes(found), team.rng)
    others = [category for category in CATEGORIES if category != chosen["category"]]
    chosen["category"] = pick(others, team.rng)
    return Change([found])


def _started(team: Team, at: str) -> Change:
    found = team.find(lambda row: row["status"] == "DRAFT")
    if not found:
        return Change()
    found |= {"status": "IN_PROGRESS", "started_at": at}
    return Change([found])


def _pause_toggled(team: Team, _at: str) -> Change:
    found = team.find(_is_running)
    if not found:
        return Change()
    found["is_paused"] = not found["is_paused"]
    return Change([found])


def _ended(team: Team, at: str) -> Change:
    found = team.find(_is_running)
    if not found:
        return Change()
    reason = pick(("is_bounced", "is_opted_out", "is_canceled", ""), team.rng)
    found |= {"status": "FINISHED", "ended_at": at, "is_paused": False}
    if reason:
        found[reason] = True
    return Change([found])


def _enrolled(team: Team, at: str) -> Change:
    """Enroll somebody, known or new, in a sequence that has enrollments already."""
    like, known = team.find(), team.find()
    if not like or not known:
        return Change()
    person = known["person"]
    if team.rng.random() < _NEW_PERSON:
        person = cast.person(team.people(), team.rng, uuid(team.rng))
    return Change([{**_draft(like, at, team.rng), "person": person}])


def _person_renamed(team: Team, _at: str) -> Change:
    found = team.find()
    if not found:
        return Change()
    values: Document = {"last_name": pick(words.LAST_NAMES, team.rng)[0]}
    return Change([found], [("person", found["person"]["id"], values)])


def _sequence_renamed(team: Team, _at: str) -> Change:
    found = team.find()
    if not found:
        return Change()
    return Change([found], [("sequence", found["sequence"]["id"], {"name": new_name(team.rng)})])


def _has_reply(row: Document) -> bool:
    return isinstance(row["reply_email_message"], dict)


def _awaits_reply(row: Document) -> bool:
    return row["reply_email_message"] is None and row["started_at"] is not None


def _is_running(row: Document) -> bool:
    return bool(row["status"] == "IN_PROGRESS")


def _is_classified(row: Document) -> bool:
    return _has_reply(row) and bool(_classes(row))


def _classes(row: Document) -> list[Document]:
    found: list[Document] = row["reply_email_message"]["classifications"]
    return found


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
