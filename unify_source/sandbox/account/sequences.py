"""An account's sequences, as the API lists them."""

from collections.abc import Iterable
from dataclasses import dataclass

from unify_source.sandbox.account.instants import DAY, SECOND, stamp
from unify_source.sandbox.invent.chance import dice
from unify_source.sandbox.invent.roster import Details, Roster
from unify_source.sandbox.invent.rows import Document, Row, Shared, encode

_LONGEST_IN_DRAFT = 90 * DAY
_LATEST = 253_402_300_799 * SECOND


@dataclass
class Sequence:
    """A listed sequence. Times in microseconds.

    `cell` is what enrollments nest; `nested_at` is the last update of an enrollment that did.
    """

    cell: Shared
    created: int
    updated: int
    details: Details
    nested_at: int

    @property
    def id(self) -> str:
        """The sequence's id."""
        return self.cell.id

    @property
    def nested(self) -> Document:
        """The sequence as enrollments nest it; a name that is not text is replaced."""
        document = self.cell.document()
        name = document.get("name")
        return {
            "id": self.id,
            "name": name if isinstance(name, str) else f"Sequence {self.id[:8]}",
            "is_paused": document.get("is_paused") is True,
        }

    def document(self) -> Document:
        """Return the sequence as the API shows it."""
        owner, schedule, ruleset = self.details
        times = {"created_at": stamp(self.created), "updated_at": stamp(self.updated)}
        settings = {"send_schedule": schedule, "sequence_ruleset": ruleset}
        return {**self.nested, **times, "owner": owner, **settings}

    def json(self) -> bytes:
        """Return the sequence as the API sends it."""
        return encode(self.document())


class Sequences:
    """The sequences that visible enrollments nest or have nested, by id, except removed ones."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.listed: dict[str, Sequence] = {}
        self._removed: set[str] = set()

    def oldest_first(self) -> list[Sequence]:
        """Return all listed sequences in the order of their creation."""
        return sorted(self.listed.values(), key=lambda one: (one.created, one.id))

    def begin(self, cells: Iterable[Shared], first: int, now: int) -> None:
        """List the account's first sequences: created before `first`, some edited until `now`."""
        for cell in cells:
            rng = dice("history", cell.id)
            created = first - int(rng.random() * _LONGEST_IN_DRAFT)
            updated = created + int(rng.random() * (now - created))
            details = self._roster.details(cell.id)
            self.listed[cell.id] = Sequence(cell, created, updated, details, now)

    def add(self, cell: Shared, like: Sequence, now: int) -> None:
        """List a sequence created now, with another's owner, schedule and ruleset."""
        self.listed[cell.id] = Sequence(cell, now, now, like.details, now)

    def remove(self, sequence_id: str) -> None:
        """Remove a sequence from the list for good; an unknown id is no error."""
        # Its enrollments still nest it, and must not bring it back to the list.
        self._removed.add(sequence_id)
        self.listed.pop(sequence_id, None)

    def see(self, rows: Iterable[Row]) -> None:
        """Record what newly visible rows nest: the row that was updated last is right."""
        for row in rows:
            cell = row.sequence
            if not cell.id or not cell.json or cell.id in self._removed:
                continue
            # Any document can be put, but no time beyond year 9999 can be written.
            updated = min(max(row.updated, 0), _LATEST)
            known = self.listed.get(cell.id)
            if known is None:
                if not isinstance(cell.document().get("id"), str):
                    continue
                created = min(max(row.created, 0), updated)
                created -= int(dice("history", cell.id).random() * _LONGEST_IN_DRAFT)
                details = self._roster.details(cell.id)
                self.listed[cell.id] = Sequence(cell, created, updated, details, updated)
            # Rows become visible in any order: the last to appear need not be the newest.
            elif updated >= known.nested_at:
                known.nested_at = updated
                if cell.json != known.cell.json:
                    known.cell, known.updated = cell, max(known.updated, updated)

    def edit(self, cell: Shared, at: int) -> None:
        """Record that an entity, a sequence or not, has had other values since that instant."""
        known = self.listed.get(cell.id)
        if known and known.cell is cell:
            known.updated = known.nested_at = max(at, known.updated)
