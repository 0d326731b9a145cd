"""The list of sequences, and the tables that are split from it."""

from __future__ import annotations

from unify_source.common.resources.model import (
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


def _changes(what: str) -> tuple[Column, ...]:
    return (
        Column("created_at", INSTANT, f"When the {what} was created."),
        Column("updated_at", INSTANT, f"When the {what} last changed."),
    )


_KNOWN_AS_OF = known_as_of("later runs have found it unchanged.")


# Names are not unique: upgrading a sequence cancels its enrollments and creates new ones, and only
# the ids tell the two sequences apart.
SEQUENCES = Table(
    name="sequences",
    description="The account's sequences, as of the last run.",
    columns=(
        id_of("sequence"),
        Column("name", TEXT, "The sequence's name; several sequences may share it."),
        Column("is_paused", FLAG, "True if the whole sequence is paused."),
        *_changes("sequence"),
        Column(
            "owner_id",
            TEXT,
            "The `id` of the owner in `users`.",
            path=("owner", KEY),
            references="users",
        ),
        Column(
            "send_schedule_id",
            TEXT,
            "The `id` of its schedule in `send_schedules`; null if it has none.",
            path=("send_schedule", KEY),
            references="send_schedules",
        ),
        Column(
            "sequence_ruleset_id",
            TEXT,
            "The `id` of its rules in `sequence_rulesets`; null if it has none.",
            path=("sequence_ruleset", KEY),
            references="sequence_rulesets",
        ),
        Column(
            MISSING_SINCE,
            INSTANT,
            "When a run first found it missing from the API's list; null while it is listed.",
        ),
        _KNOWN_AS_OF,
    ),
)


USERS = Table(
    name="users",
    description="The users who own a sequence, as of the last run.",
    columns=(id_of("user"), *person_columns("user"), _KNOWN_AS_OF),
)


SEND_SCHEDULES = Table(
    name="send_schedules",
    description="The schedules on which sequences send, as of the last run.",
    columns=(
        id_of("schedule"),
        Column("name", TEXT, "The schedule's name."),
        Column("is_default", FLAG, "True if it is the default for new sequences."),
        *_changes("schedule"),
        Column("rules", JSON, "Time zone, sending windows by day, and excluded dates, as JSON."),
        _KNOWN_AS_OF,
    ),
)


SEQUENCE_RULESETS = Table(
    name="sequence_rulesets",
    description="Rules that sequences share, as of the last run.",
    columns=(
        id_of("ruleset"),
        Column("name", TEXT, "The ruleset's name."),
        Column("is_default", FLAG, "True if they are the default for new sequences."),
        *_changes("ruleset"),
        Column(
            "automatic_enrollment_task_assignment",
            TEXT,
            "Who is assigned the tasks for people whom a play enrolled.",
        ),
        Column(
            "automatic_enrollment_task_assignment_user_id",
            TEXT,
            "The id of that user, if it is a single user; may be missing from `users`.",
        ),
        Column(
            "manual_enrollment_task_assignment",
            TEXT,
            "Who is assigned the tasks for people whom a user enrolled.",
        ),
        Column(
            "manual_enrollment_task_assignment_user_id",
            TEXT,
            "The id of that user, if it is a single user; may be missing from `users`.",
        ),
        Column(
            "opt_out_message", TEXT, "The text that lets people opt out; null if there is none."
        ),
        Column(
            "allow_same_sequence_reenrollment",
            FLAG,
            "True if a person may be enrolled in the same sequence again.",
        ),
        Column(
            "block_reenrollment_value",
            WHOLE,
            "How long re-enrollment is blocked, in `block_reenrollment_units`.",
        ),
        Column("block_reenrollment_units", TEXT, "The unit of `block_reenrollment_value`."),
        _KNOWN_AS_OF,
    ),
)


SEQUENCE_LIST = Resource(
    name="sequences",
    # It has no filter by time, so it is read whole, once a run. Whether renaming a sequence moves
    # the `updated_at` of its enrollments is not documented; this list has the new name anyway.
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
