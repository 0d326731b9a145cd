"""The list of enrollments, and the tables that are split from it."""

from __future__ import annotations

from unify_source.common.resources.model import (
    AS_OF,
    CURSOR,
    FLAG,
    INSTANT,
    KEY,
    OWNER,
    TEXT,
    Column,
    Part,
    Resource,
    Table,
    id_of,
    known_as_of,
    person_columns,
)
from unify_source.common.resources.sequences import SEQUENCES

_KNOWN_AS_OF = known_as_of("later changes arrive with the next enrollment that shows it.")
_ANSWERED_AS_OF = Column(
    AS_OF, INSTANT, "The `updated_at` of the enrollment that it was read from.", path=(CURSOR,)
)

ENROLLMENTS = Table(
    name="enrollments",
    description="One row for each enrollment of a person in a sequence.",
    newest=CURSOR,
    columns=(
        id_of("enrollment"),
        # The API's own examples have no fraction of a second, or one of three or six digits. So
        # times are compared as instants, never as text.
        Column("created_at", INSTANT, "When the person was enrolled."),
        Column(
            "updated_at",
            INSTANT,
            "When the enrollment last changed; runs use it as their cursor.",
        ),
        # A blocked enrollment, or one that was canceled as a draft, may never have started, so null
        # does not mean that it is still a draft.
        Column(
            "started_at",
            INSTANT,
            "When the sequence began for the person; null until then. Whether every `FINISHED`"
            " enrollment has one is not documented.",
        ),
        Column("ended_at", INSTANT, "When the sequence ended for the person; null until then."),
        # Text, not an enumeration: the API is in beta, and a fourth status must load like the rest.
        Column("status", TEXT, "`DRAFT`, `IN_PROGRESS` or `FINISHED`."),
        Column(
            "is_blocked",
            FLAG,
            "True if the enrollment is blocked. Its cause and effect are not documented.",
        ),
        Column("is_bounced", FLAG, "True if an e-mail bounced."),
        Column(
            "is_canceled",
            FLAG,
            "True if the enrollment was canceled. The API keeps such rows, and so do the tables.",
        ),
        Column(
            "is_excluded",
            FLAG,
            "True if the enrollment is excluded. Its cause and effect are not documented.",
        ),
        Column("is_opted_out", FLAG, "True if the person opted out."),
        # Not the flag of the sequence, nor that of the mailbox, which have the same name.
        Column("is_paused", FLAG, "True if the enrollment is paused."),
        Column(
            "is_replied",
            FLAG,
            "True if the person replied. How this relates to the row in `reply_email_messages` is"
            " not documented.",
        ),
        Column(
            "sequence_id",
            TEXT,
            "The `id` of the sequence in `sequences`.",
            path=("sequence", KEY),
            references="sequences",
        ),
        Column(
            "person_id",
            TEXT,
            "The `id` of the enrolled person in `people`.",
            path=("person", KEY),
            references="people",
        ),
        Column(
            "mailbox_id",
            TEXT,
            "The `id` of the sending mailbox in `mailboxes`.",
            path=("mailbox", KEY),
            references="mailboxes",
        ),
        Column(
            "enrolled_by_play_id",
            TEXT,
            "The `id` in `plays` of the play that enrolled the person; null if none did.",
            path=("enrolled_by_play", KEY),
            references="plays",
        ),
        Column(
            "reply_email_message_id",
            TEXT,
            "The `id` of the reply in `reply_email_messages`; null if there is none.",
            path=("reply_email_message", KEY),
            references="reply_email_messages",
        ),
    ),
)


PEOPLE = Table(
    # The API has no list of people. It does not document whether a new name or address moves an
    # enrollment's `updated_at`: a person is as recent as the last enrollment that was read.
    name="people",
    description="The people who are or were enrolled.",
    columns=(
        id_of("person"),
        *person_columns("person"),
        Column(
            "linkedin_url",
            TEXT,
            "The URL of the person's LinkedIn profile; null if unknown.",
            pii=True,
        ),
        _KNOWN_AS_OF,
    ),
)


MAILBOXES = Table(
    # Unify's query jobs call the address `email_address` and lack both flags: the two interfaces
    # differ, and these columns are those of the list.
    name="mailboxes",
    description="The mailboxes that sequences send from.",
    columns=(
        id_of("mailbox"),
        Column("email", TEXT, "The mailbox's e-mail address.", pii=True, is_email=True),
        Column(
            "display_name",
            TEXT,
            "The name that recipients see; null if there is none.",
            pii=True,
        ),
        Column("is_paused", FLAG, "True if the mailbox is paused."),
        Column("is_unauthorized", FLAG, "True if Unify is not authorized to use the mailbox."),
        _KNOWN_AS_OF,
    ),
)


PLAYS = Table(
    # The older reference page has no `enrolled_by_play` at all; the OpenAPI document does.
    name="plays",
    description="The plays that enrolled people.",
    columns=(id_of("play"), Column("name", TEXT, "The play's name."), _KNOWN_AS_OF),
)


REPLY_EMAIL_MESSAGES = Table(
    # It is not documented what happens when a reply is deleted, or matched to another enrollment.
    # Both are assumed to be possible: hence `dies_with`.
    name="reply_email_messages",
    description="Replies: at most one for each enrollment, removed once the API no longer has it.",
    newest=AS_OF,
    dies_with="enrollment_id",
    columns=(
        id_of("message"),
        Column("subject", TEXT, "The subject line; null if there is none.", pii=True),
        Column("received_at", INSTANT, "When the reply was received; null if unknown."),
        Column(
            "enrollment_id",
            TEXT,
            "The `id` in `enrollments` of the enrollment that it belongs to.",
            path=(KEY,),
            references="enrollments",
        ),
        _ANSWERED_AS_OF,
    ),
)


REPLY_CLASSIFICATIONS = Table(
    # `category` is missing on the older reference page: null there, never an error.
    name="reply_classifications",
    description="Unify's classifications of replies: any number for each, even contradictory ones.",
    newest=AS_OF,
    dies_with=OWNER,
    columns=(
        id_of("classification"),
        Column("category", TEXT, "`POSITIVE`, `NEUTRAL`, `NEGATIVE` or `AUTOMATED`."),
        Column(
            "reply_email_message_id",
            TEXT,
            "The `id` of the reply in `reply_email_messages`.",
            path=("reply_email_message", KEY),
            references="reply_email_messages",
        ),
        Column(OWNER, TEXT, "The enrollment that it belongs to, and is deleted with.", path=(KEY,)),
        _ANSWERED_AS_OF,
    ),
)


QUARANTINE = Table(
    name="enrollments_quarantine",
    description="Rows that are not as the API documents them, kept whole. Usually empty.",
    newest="seen_at",
    hard_deletes=True,
    columns=(
        Column(
            KEY, TEXT, "The id of the enrollment or sequence, or a hash of `raw` if it has none."
        ),
        Column(
            "reason", TEXT, "What is wrong with it, such as `is_paused is text, not true or false`."
        ),
        Column("raw", TEXT, "The whole row, as JSON.", pii=True),
        Column("seen_at", INSTANT, "When a run quarantined it."),
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
        # A deleted sequence is gone from its own list, but its enrollments still contain it.
        Part(SEQUENCES, ("sequence",), only=(KEY, "name", "is_paused"), fills_in=True),
        Part(PEOPLE, ("person",)),
        Part(MAILBOXES, ("mailbox",)),
        Part(PLAYS, ("enrolled_by_play",)),
        Part(REPLY_EMAIL_MESSAGES, ("reply_email_message",)),
        Part(REPLY_CLASSIFICATIONS, ("reply_email_message", "classifications")),
    ),
)
