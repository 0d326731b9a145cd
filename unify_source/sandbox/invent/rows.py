"""An enrollment as the bytes that the API sends, in pieces that enrollments share.

A person has many enrollments and a sequence thousands. Each is stored once, so that a new name
shows everywhere at once and a million rows fit into memory.
"""

import hashlib
from typing import Any

import orjson

from unify_source.sandbox.account import instants

Document = dict[str, Any]

KINDS = ("sequence", "person", "mailbox", "enrolled_by_play")
_HEAD = ("id", "created_at", "updated_at")
FLAGS = (
    "is_blocked",
    "is_bounced",
    "is_canceled",
    "is_excluded",
    "is_opted_out",
    "is_paused",
    "is_replied",
)
_TAIL = ("reply_email_message", "status", *FLAGS, "started_at", "ended_at")
_REGULAR = (*_HEAD, *KINDS, *_TAIL)


def encode(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8."""
    return orjson.dumps(value)


def decode(text: bytes) -> Document:
    """Return a JSON object, parsed."""
    document: Document = orjson.loads(text)
    return document


class Shared:
    """An entity that enrollments nest: its id, and `,"kind":{...}` as bytes."""

    __slots__ = ("id", "json")

    def __init__(self, name: str, text: bytes) -> None:
        self.id = name
        self.json = text

    def document(self) -> Document:
        """Return the entity parsed."""
        return decode(self.json.partition(b":")[2])

    def update(self, values: Document) -> None:
        """Change values of the entity, in all enrollments at once."""
        kind = self.json.partition(b":")[0]
        self.json = kind + b":" + encode({**self.document(), **values})


class Row:
    """An enrollment: the values that queries use, and its JSON in pieces. Times in microseconds."""

    __slots__ = (
        "created",
        "head",
        "id",
        "mailbox",
        "person",
        "play",
        "sequence",
        "status",
        "tail",
        "updated",
    )

    def __init__(
        self,
        name: str,
        times: tuple[int, int],
        status: str,
        head: bytes,
        cells: tuple[Shared, Shared, Shared, Shared],
        tail: bytes,
    ) -> None:
        self.id = name
        self.created, self.updated = times
        self.status = status
        self.head = head
        self.sequence, self.person, self.mailbox, self.play = cells
        self.tail = tail

    @property
    def is_regular(self) -> bool:
        """Whether the row has the documented shape, which lifelike changes need."""
        return self.tail != b""

    def json(self) -> bytes:
        """Return the row as the API sends it."""
        if not self.is_regular:
            return self.head
        return b"".join(
            (
                self.head,
                self.sequence.json,
                self.person.json,
                self.mailbox.json,
                self.play.json,
                self.tail,
            )
        )

    def document(self) -> Document:
        """Return the row parsed."""
        return decode(self.json())


NO_PLAY = Shared("", b',"enrolled_by_play":null')


class Entities:
    """All entities that enrollments share, by kind and id."""

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[str, Shared]] = {kind: {} for kind in KINDS}

    def count(self, kind: str) -> int:
        """Return how many entities of a kind there are."""
        return len(self._by_kind[kind])

    def cell(self, kind: str, document: Document | None) -> Shared:
        """Return the shared entity that equals `document`, or an unshared one if it differs."""
        if document is None:
            return NO_PLAY
        own = _loose(kind, document)
        known = self._by_kind[kind].setdefault(own.id, own)
        # A row may be put with an older name, as a stale replica would show it: it keeps that name
        # and changes no other row.
        return known if known.json == own.json else own

    def known(self, kind: str, name: str) -> Shared | None:
        """Return the shared entity with this id."""
        return self._by_kind[kind].get(name)

    def row(self, document: Document, *, otherwise: tuple[int, int]) -> Row:
        """Return any document as a row, with the times `otherwise` if its own are unreadable."""
        name = document.get("id")
        if not isinstance(name, str):
            name = "without-id-" + hashlib.sha256(encode(document)).hexdigest()[:16]
        created = instants.parse(document.get("created_at"))
        updated = instants.parse(document.get("updated_at"))
        times = (
            otherwise[0] if created is None else created,
            otherwise[1] if updated is None else updated,
        )
        status = str(document.get("status"))
        # Any document can be put, even a broken one, and is sent as it is.
        if not _is_regular(document):
            cells = [_loose(kind, document.get(kind)) for kind in KINDS]
            return Row(name, times, status, encode(document), _four(cells), b"")
        head = encode({key: document[key] for key in _HEAD})[:-1]
        tail = b"," + encode({key: document[key] for key in _TAIL})[1:]
        cells = [self.cell(kind, document[kind]) for kind in KINDS]
        return Row(name, times, status, head, _four(cells), tail)


def _four(cells: list[Shared]) -> tuple[Shared, Shared, Shared, Shared]:
    sequence, person, mailbox, play = cells
    return sequence, person, mailbox, play


def _loose(kind: str, entity: object) -> Shared:
    """Return an entity that no other row shares, without JSON if it is no object."""
    if not isinstance(entity, dict):
        return Shared("", b"")
    return Shared(_id(entity), f',"{kind}":'.encode() + encode(entity))


def _id(entity: object) -> str:
    return str(entity.get("id")) if isinstance(entity, dict) else ""


def _is_regular(document: Document) -> bool:
    if tuple(document) != _REGULAR or not all(isinstance(document[key], str) for key in _HEAD):
        return False
    if document["enrolled_by_play"] is None:
        return all(_id(document[kind]) for kind in KINDS[:-1])
    return all(_id(document[kind]) for kind in KINDS)
