"""The warehouse as facts: each table, its columns and types, and where its rows stand in the API.

Read from top to bottom this file is the data dictionary. The order of columns is the order in
which a new table is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

TEXT = pa.string()
FLAG = pa.bool_()
INSTANT = pa.timestamp("us", tz="UTC")

KEY = "id"
CURSOR = "updated_at"

# Columns that begin with an underscore serve the merge and are nobody's data.
AS_OF = "_as_of"
DELETED = "_deleted"
OWNER = "_enrollment_id"


@dataclass(frozen=True)
class Table:
    """One table: `path` leads from an enrollment to the object (or list) that makes its rows.

    `columns` are read from that object. `links` are read from elsewhere in the same enrollment:
    the path of keys to the value.
    """

    name: str
    path: tuple[str, ...]
    columns: dict[str, pa.DataType]
    links: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dies_with: str | None = None

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the promised columns, in order, without the merge's own."""
        links = {name: TEXT for name in self.links if not name.startswith("_")}
        columns = {**self.columns, **links}
        return pa.schema([pa.field(n, kind, nullable=n != KEY) for n, kind in columns.items()])


ENROLLMENTS = Table(
    name="enrollments",
    path=(),
    columns={
        "id": TEXT,
        "created_at": INSTANT,
        "updated_at": INSTANT,
        "started_at": INSTANT,
        "ended_at": INSTANT,
        "status": TEXT,
        "is_blocked": FLAG,
        "is_bounced": FLAG,
        "is_canceled": FLAG,
        "is_excluded": FLAG,
        "is_opted_out": FLAG,
        "is_paused": FLAG,
        "is_replied": FLAG,
    },
    links={
        "sequence_id": ("sequence", "id"),
        "person_id": ("person", "id"),
        "mailbox_id": ("mailbox", "id"),
        "enrolled_by_play_id": ("enrolled_by_play", "id"),
        "reply_email_message_id": ("reply_email_message", "id"),
    },
)

SEQUENCES = Table(
    name="sequences",
    path=("sequence",),
    columns={"id": TEXT, "name": TEXT, "is_paused": FLAG},
)

PEOPLE = Table(
    name="people",
    path=("person",),
    columns={
        "id": TEXT,
        "email": TEXT,
        "first_name": TEXT,
        "last_name": TEXT,
        "linkedin_url": TEXT,
    },
)

MAILBOXES = Table(
    name="mailboxes",
    path=("mailbox",),
    columns={
        "id": TEXT,
        "email": TEXT,
        "display_name": TEXT,
        "is_paused": FLAG,
        "is_unauthorized": FLAG,
    },
)

PLAYS = Table(
    name="plays",
    path=("enrolled_by_play",),
    columns={"id": TEXT, "name": TEXT},
)

REPLY_EMAIL_MESSAGES = Table(
    name="reply_email_messages",
    path=("reply_email_message",),
    columns={"id": TEXT, "subject": TEXT, "received_at": INSTANT},
    links={"enrollment_id": ("id",)},
    dies_with="enrollment_id",
)

REPLY_CLASSIFICATIONS = Table(
    name="reply_classifications",
    path=("reply_email_message", "classifications"),
    columns={"id": TEXT, "category": TEXT},
    links={"reply_email_message_id": ("reply_email_message", "id"), OWNER: ("id",)},
    dies_with=OWNER,
)

QUARANTINE = Table(
    name="enrollments_quarantine",
    path=(),
    columns={"id": TEXT, "reason": TEXT, "raw": TEXT, "seen_at": INSTANT},
)

TABLES = (
    ENROLLMENTS,
    SEQUENCES,
    PEOPLE,
    MAILBOXES,
    PLAYS,
    REPLY_EMAIL_MESSAGES,
    REPLY_CLASSIFICATIONS,
)
"""The tables that are split from an enrollment; the quarantine stands beside them."""

BY_NAME = {table.name: table for table in (*TABLES, QUARANTINE)}
"""Every table of the warehouse, the quarantine last."""

LISTS = ("classifications",)
"""Keys whose value the API promises to be a list of objects."""


def promised_type(path: tuple[str, ...] = ()) -> pa.StructType:
    """Return the nested Arrow type that the API promises for the object at `path`.

    Instants are text here: the API writes them with fractions of any length.
    """
    own = [table for table in TABLES if table.path == path]
    fields = {
        name: TEXT if kind == INSTANT else kind for t in own for name, kind in t.columns.items()
    }
    below = {t.path[len(path)] for t in TABLES if t.path[: len(path)] == path != t.path}
    for key in sorted(below):
        kind = promised_type((*path, key))
        fields[key] = pa.list_(kind) if key in LISTS else kind
    return pa.struct(list(fields.items()))
