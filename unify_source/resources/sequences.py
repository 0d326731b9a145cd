"""The list of sequences, and the tables that are split from it."""

from __future__ import annotations

from unify_source.resources.model import (
    FLAG,
    INSTANT,
    JSON,
    KEY,
    MISSING_SINCE,
    TEXT,
    WHOLE,
    Column,
    Part,
    Resource,
    Table,
    id_of,
    known_as_of,
    person_columns,
)

_CREATED_AT = Column("created_at", INSTANT, "When it was created.")
_UPDATED_AT = Column("updated_at", INSTANT, "When it was last changed.")
_KNOWN_AS_OF = known_as_of("every run since then found the whole list unchanged.")


# Names are not unique: upgrading a sequence cancels its enrollments and creates new ones, and the
# tables tell old from new by id alone.
SEQUENCES = Table(
    name="sequences",
    description="The sequences of the account, as fresh as the last run.",
    columns=(
        id_of("sequence"),
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
        _KNOWN_AS_OF,
    ),
)


USERS = Table(
    name="users",
    description="The users who own a sequence, as fresh as the last run.",
    columns=(id_of("user"), *person_columns("user"), _KNOWN_AS_OF),
)


SEND_SCHEDULES = Table(
    name="send_schedules",
    description="When sequences send, as fresh as the last run.",
    columns=(
        id_of("schedule"),
        Column("name", TEXT, "Its name."),
        Column("is_default", FLAG, "New sequences get it."),
        _CREATED_AT,
        _UPDATED_AT,
        Column("rules", JSON, "Time zone, sending windows by day, and excluded dates, as JSON."),
        _KNOWN_AS_OF,
    ),
)


SEQUENCE_RULESETS = Table(
    name="sequence_rulesets",
    description="Rules that sequences share, as fresh as the last run.",
    columns=(
        id_of("ruleset"),
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
        _KNOWN_AS_OF,
    ),
)


SEQUENCE_LIST = Resource(
    name="sequences",
    # No filter by time, so it is read whole, once a run. Whether a rename of a sequence moves the
    # `updated_at` of its enrollments is not documented; here the new name is seen in any case.
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
