"""The API's lists and the warehouse's tables as facts: this file is the data dictionary.

A resource is an endpoint that lists objects; each of its parts says which table the objects at a
path become rows of. The order of columns is the order in which a new table is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

TEXT = pa.string()
FLAG = pa.bool_()
WHOLE = pa.int64()
INSTANT = pa.timestamp("us", tz="UTC")
JSON = pa.json_(TEXT)
"""Whatever the API sends, as its JSON text."""

KEY = "id"
CURSOR = "updated_at"

# Columns that begin with an underscore serve the merge and are nobody's data.
AS_OF = "_as_of"
DELETED = "_deleted"
OWNER = "_enrollment_id"

JSON_METADATA = {"json": "1"}
"""The metadata of an Arrow field whose text is JSON."""

Path = tuple[str, ...]
"""Keys that lead from a listed object to a value in it."""


@dataclass(frozen=True)
class Column:
    """One promised column, read from the key of its own name, or from `path` in the whole row.

    `pii` marks what identifies a person. `references` is the table whose keys the values are.
    """

    name: str
    type: pa.DataType
    description: str
    pii: bool = False
    path: Path | None = None
    references: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether it serves the merge alone."""
        return self.name.startswith("_")

    def field(self) -> pa.Field:
        """Return it as a field of Arrow: JSON is text with a mark."""
        is_json = self.type == JSON
        kind, metadata = (TEXT, JSON_METADATA) if is_json else (self.type, None)
        return pa.field(self.name, kind, nullable=self.name != KEY, metadata=metadata)


@dataclass(frozen=True)
class Table:
    """One table of the warehouse.

    `newest` names the column that tells which of two rows with one key is the newer. Rows that
    live and die with a row of another table name its key in `dies_with`.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    newest: str = AS_OF
    dies_with: str | None = None

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the promised columns, in order, without the merge's own."""
        return pa.schema([column.field() for column in self.columns if not column.is_internal])

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Part:
    """The objects at a path of a listed row, and the table that they become rows of.

    Where the object at `path` is a list, each of its items is a row. `only` names the columns that
    the objects hold, where they hold fewer than the table has. One that `fills_in` gives rows that
    the table's own list no longer has, and no others.
    """

    table: Table
    path: Path = ()
    only: tuple[str, ...] = ()
    fills_in: bool = False

    def columns(self) -> Iterator[Column]:
        """Yield the columns that are read here."""
        for column in self.table.columns:
            if not self.only or column.name in self.only:
                yield column

    def own(self) -> Iterator[Column]:
        """Yield the columns that are keys of the object itself."""
        return (column for column in self.columns() if column.path is None)

    def linked(self) -> Iterator[Column]:
        """Yield the columns that are read from elsewhere in the row."""
        return (column for column in self.columns() if column.path is not None)


@dataclass(frozen=True)
class Resource:
    """An endpoint that lists objects: `list_key` names the list in a page.

    One that is `windowed` heeds `updated_after` and `updated_before`; any other is read whole.
    `lists` are the keys whose value is a list of objects.
    """

    name: str
    path: str
    list_key: str
    parts: tuple[Part, ...]
    windowed: bool
    lists: tuple[str, ...] = ()

    def promised_type(self, path: Path = ()) -> pa.StructType:
        """Return the nested Arrow type that the API promises for the object at `path`.

        Instants are text here: the API writes them with fractions of any length.
        """
        fields = {
            column.name: TEXT if column.type == INSTANT else column.type
            for part in self.parts
            if part.path == path
            for column in part.own()
            if column.name not in NOT_SENT
        }
        depth = len(path)
        below = {p.path[depth] for p in self.parts if p.path[:depth] == path != p.path}
        for key in sorted(below):
            kind = self.promised_type((*path, key))
            fields[key] = pa.list_(kind) if key in self.lists else kind
        return pa.struct(list(fields.items()))

    def instants(self) -> Iterator[Path]:
        """Yield the path of every value that is promised to be an instant."""
        for part in self.parts:
            for column in part.own():
                if column.type == INSTANT and column.name not in NOT_SENT:
                    yield (*part.path, column.name)


MISSING_SINCE = "missing_since"
NOT_SENT = (MISSING_SINCE,)
"""Columns that a run fills in: the API sends no such key."""


def _id(whose: str) -> Column:
    return Column(KEY, TEXT, f"The {whose}'s id.")


_CREATED_AT = Column("created_at", INSTANT, "When it was created.")
_UPDATED_AT = Column("updated_at", INSTANT, "When it was last changed.")


def _person_columns(whose: str) -> tuple[Column, ...]:
    return (
        Column("email", TEXT, f"The {whose}'s e-mail address.", pii=True),
        Column("first_name", TEXT, "The first name; null where Unify does not know it.", pii=True),
        Column("last_name", TEXT, "The last name; null where Unify does not know it.", pii=True),
    )


ENROLLMENTS = Table(
    name="enrollments",
    description="One person's way through one sequence.",
    newest=CURSOR,
    columns=(
        _id("enrollment"),
        Column("created_at", INSTANT, "When the person was enrolled."),
        Column(
            "updated_at", INSTANT, "When the enrollment last changed; the cursor runs along it."
        ),
        Column("started_at", INSTANT, "When the sequence began for the person; null before."),
        Column("ended_at", INSTANT, "When it ended for the person; null before."),
        Column("status", TEXT, "`DRAFT`, `IN_PROGRESS` or `FINISHED`."),
        Column("is_blocked", FLAG, "Unify marks the enrollment as blocked."),
        Column("is_bounced", FLAG, "An e-mail bounced."),
        Column(
            "is_canceled",
            FLAG,
            "The enrollment was canceled; the API keeps such rows, and so do the tables.",
        ),
        Column("is_excluded", FLAG, "Unify marks the enrollment as excluded."),
        Column("is_opted_out", FLAG, "The person opted out."),
        Column("is_paused", FLAG, "The enrollment is paused."),
        Column("is_replied", FLAG, "The person replied."),
        Column(
            "sequence_id",
            TEXT,
            "The sequence, in `sequences`.",
            path=("sequence", KEY),
            references="sequences",
        ),
        Column(
            "person_id",
            TEXT,
            "The person who is enrolled, in `people`.",
            path=("person", KEY),
            references="people",
        ),
        Column(
            "mailbox_id",
            TEXT,
            "The mailbox that sends, in `mailboxes`.",
            path=("mailbox", KEY),
            references="mailboxes",
        ),
        Column(
            "enrolled_by_play_id",
            TEXT,
            "The play that enrolled the person, in `plays`; null if none did.",
            path=("enrolled_by_play", KEY),
            references="plays",
        ),
        Column(
            "reply_email_message_id",
            TEXT,
            "The reply, in `reply_email_messages`; null without one.",
            path=("reply_email_message", KEY),
            references="reply_email_messages",
        ),
    ),
)

SEQUENCES = Table(
    name="sequences",
    description="The sequences of the account, as fresh as the last run.",
    columns=(
        _id("sequence"),
        Column("name", TEXT, "Its name."),
        Column("is_paused", FLAG, "The whole sequence is paused."),
        _CREATED_AT,
        _UPDATED_AT,
        Column(
            "owner_id",
            TEXT,
            "The user who owns it, in `users`.",
            path=("owner", KEY),
            references="users",
        ),
        Column(
            "send_schedule_id",
            TEXT,
            "When it sends, in `send_schedules`; null without a schedule.",
            path=("send_schedule", KEY),
            references="send_schedules",
        ),
        Column(
            "sequence_ruleset_id",
            TEXT,
            "Its rules, in `sequence_rulesets`; null without any.",
            path=("sequence_ruleset", KEY),
            references="sequence_rulesets",
        ),
        Column(
            MISSING_SINCE,
            INSTANT,
            "When a run first missed it in the API's list; null while it is listed.",
        ),
    ),
)

USERS = Table(
    name="users",
    description="The users who own a sequence, as fresh as the last run.",
    columns=(_id("user"), *_person_columns("user")),
)

SEND_SCHEDULES = Table(
    name="send_schedules",
    description="When sequences send, as fresh as the last run.",
    columns=(
        _id("schedule"),
        Column("name", TEXT, "Its name."),
        Column("is_default", FLAG, "New sequences get it."),
        _CREATED_AT,
        _UPDATED_AT,
        Column("rules", JSON, "Time zone, sending windows by day, and excluded dates, as JSON."),
    ),
)

SEQUENCE_RULESETS = Table(
    name="sequence_rulesets",
    description="Rules that sequences share, as fresh as the last run.",
    columns=(
        _id("ruleset"),
        Column("name", TEXT, "Its name."),
        Column("is_default", FLAG, "New sequences get it."),
        _CREATED_AT,
        _UPDATED_AT,
        Column(
            "automatic_enrollment_task_assignment",
            TEXT,
            "Who gets the tasks of people whom a play enrolled.",
        ),
        Column(
            "automatic_enrollment_task_assignment_user_id",
            TEXT,
            "That user, where it is one user; not always in `users`.",
        ),
        Column(
            "manual_enrollment_task_assignment",
            TEXT,
            "Who gets the tasks of people whom a user enrolled.",
        ),
        Column(
            "manual_enrollment_task_assignment_user_id",
            TEXT,
            "That user, where it is one user; not always in `users`.",
        ),
        Column("opt_out_message", TEXT, "The text that offers to opt out, where there is one."),
        Column(
            "allow_same_sequence_reenrollment",
            FLAG,
            "A person may be enrolled in the same sequence again.",
        ),
        Column("block_reenrollment_value", WHOLE, "How long re-enrollment is blocked, in units."),
        Column("block_reenrollment_units", TEXT, "The unit of that length."),
    ),
)

PEOPLE = Table(
    name="people",
    description="The people who are or were enrolled.",
    columns=(
        _id("person"),
        *_person_columns("person"),
        Column(
            "linkedin_url",
            TEXT,
            "The LinkedIn profile; null where Unify does not know it.",
            pii=True,
        ),
    ),
)

MAILBOXES = Table(
    name="mailboxes",
    description="The mailboxes that send.",
    columns=(
        _id("mailbox"),
        Column("email", TEXT, "The address that it sends from.", pii=True),
        Column(
            "display_name",
            TEXT,
            "The name that recipients see; null where there is none.",
            pii=True,
        ),
        Column("is_paused", FLAG, "The mailbox is paused."),
        Column("is_unauthorized", FLAG, "Unify is not authorized to use it."),
    ),
)

PLAYS = Table(
    name="plays",
    description="The plays that enrolled people.",
    columns=(_id("play"), Column("name", TEXT, "Its name.")),
)

REPLY_EMAIL_MESSAGES = Table(
    name="reply_email_messages",
    description="Replies; at most one for each enrollment, and gone when the API no longer has it.",
    dies_with="enrollment_id",
    columns=(
        _id("message"),
        Column("subject", TEXT, "The subject line; null where there is none.", pii=True),
        Column("received_at", INSTANT, "When it was received; null where unknown."),
        Column(
            "enrollment_id",
            TEXT,
            "The enrollment that it answers, in `enrollments`.",
            path=(KEY,),
            references="enrollments",
        ),
    ),
)

REPLY_CLASSIFICATIONS = Table(
    name="reply_classifications",
    description="What Unify makes of a reply: any number for each.",
    dies_with=OWNER,
    columns=(
        _id("classification"),
        Column("category", TEXT, "`POSITIVE`, `NEUTRAL`, `NEGATIVE` or `AUTOMATED`."),
        Column(
            "reply_email_message_id",
            TEXT,
            "The reply, in `reply_email_messages`.",
            path=("reply_email_message", KEY),
            references="reply_email_messages",
        ),
        Column(OWNER, TEXT, "The enrollment that it lives and dies with.", path=(KEY,)),
    ),
)

QUARANTINE = Table(
    name="enrollments_quarantine",
    description="Enrollments that could not be read as the API promises them. Empty is good.",
    newest="seen_at",
    columns=(
        Column(KEY, TEXT, "The enrollment's id, or a hash of `raw` where it has none."),
        Column(
            "reason", TEXT, "What is wrong with it, such as `is_paused is text, not true or false`."
        ),
        Column("raw", TEXT, "The whole row as JSON.", pii=True),
        Column("seen_at", INSTANT, "When a run met it."),
    ),
)

ENROLLMENT_LIST = Resource(
    name="enrollments",
    path="/sequences/v1/enrollments",
    list_key="enrollments",
    windowed=True,
    lists=("classifications",),
    parts=(
        Part(ENROLLMENTS),
        Part(SEQUENCES, ("sequence",), only=(KEY, "name", "is_paused"), fills_in=True),
        Part(PEOPLE, ("person",)),
        Part(MAILBOXES, ("mailbox",)),
        Part(PLAYS, ("enrolled_by_play",)),
        Part(REPLY_EMAIL_MESSAGES, ("reply_email_message",)),
        Part(REPLY_CLASSIFICATIONS, ("reply_email_message", "classifications")),
    ),
)

SEQUENCE_LIST = Resource(
    name="sequences",
    path="/sequences/v1/sequences",
    list_key="sequences",
    windowed=False,
    parts=(
        Part(SEQUENCES),
        Part(USERS, ("owner",)),
        Part(SEND_SCHEDULES, ("send_schedule",)),
        Part(SEQUENCE_RULESETS, ("sequence_ruleset",)),
    ),
)

MAIN_LIST = ENROLLMENT_LIST
"""The list whose resource keeps the state that all tables of a run share."""

TABLES = tuple(part.table for part in ENROLLMENT_LIST.parts)
"""The tables that are split from an enrollment; the quarantine stands beside them."""

LISTED_TABLES = (USERS, SEND_SCHEDULES, SEQUENCE_RULESETS)
"""The tables that only the list of sequences fills."""

BY_NAME = {table.name: table for table in (*TABLES, *LISTED_TABLES, QUARANTINE)}
"""Every table of the warehouse, the quarantine last."""
