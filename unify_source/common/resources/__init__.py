"""The API's lists and the warehouse's tables as facts: this folder is the data dictionary.

A resource is an endpoint that lists objects; each of its parts maps the objects at a path to the
rows of a table. A new table is created with its columns in the order that they have here.
"""

from __future__ import annotations

from unify_source.common.resources.enrollments import (
    ENROLLMENT_LIST,
    ENROLLMENTS,
    MAILBOXES,
    PEOPLE,
    PLAYS,
    QUARANTINE,
    REPLY_CLASSIFICATIONS,
    REPLY_EMAIL_MESSAGES,
)
from unify_source.common.resources.ledger import DIFFERENCES, LEDGER
from unify_source.common.resources.model import (
    AS_OF,
    CURSOR,
    DAY,
    DELETED,
    FLAG,
    INSTANT,
    JSON,
    JSON_METADATA,
    KEY,
    KNOWN_AS_OF,
    MARK,
    MISSING_SINCE,
    OWNER,
    TEXT,
    WHOLE,
    Column,
    Part,
    Path,
    Resource,
    Table,
)
from unify_source.common.resources.sequences import (
    SEND_SCHEDULES,
    SEQUENCE_LIST,
    SEQUENCE_RULESETS,
    SEQUENCES,
    USERS,
)

__all__ = [
    "ALL_TABLES",
    "AS_OF",
    "BY_NAME",
    "CURSOR",
    "DAY",
    "DELETED",
    "DESCRIBED",
    "DIFFERENCES",
    "ENROLLMENTS",
    "ENROLLMENT_LIST",
    "FLAG",
    "INSTANT",
    "JSON",
    "JSON_METADATA",
    "KEY",
    "KNOWN_AS_OF",
    "LEDGER",
    "LISTED_TABLES",
    "LISTS",
    "MAILBOXES",
    "MAIN_LIST",
    "MARK",
    "MISSING_SINCE",
    "OWNER",
    "PEOPLE",
    "PLAYS",
    "QUARANTINE",
    "REPLY_CLASSIFICATIONS",
    "REPLY_EMAIL_MESSAGES",
    "SEND_SCHEDULES",
    "SEQUENCES",
    "SEQUENCE_LIST",
    "SEQUENCE_RULESETS",
    "TABLES",
    "TEXT",
    "UNWINDOWED_LISTS",
    "USERS",
    "WHOLE",
    "Column",
    "Part",
    "Path",
    "Resource",
    "Table",
]

MAIN_LIST = ENROLLMENT_LIST
"""The list whose resource keeps the state that all tables of a run share."""

UNWINDOWED_LISTS = (SEQUENCE_LIST,)
"""The lists without a time filter, which every run reads whole."""

LISTS = (MAIN_LIST, *UNWINDOWED_LISTS)

TABLES = tuple(part.table for part in ENROLLMENT_LIST.parts)
"""The tables that are split from an enrollment, without the quarantine."""

LISTED_TABLES = (USERS, SEND_SCHEDULES, SEQUENCE_RULESETS)
"""The tables that only the list of sequences fills."""

BY_NAME = {table.name: table for table in (*TABLES, *LISTED_TABLES, QUARANTINE)}
"""Every table of data, the quarantine last."""

ALL_TABLES = (*BY_NAME.values(), LEDGER)
"""Every table of the warehouse that a run creates."""

DESCRIBED = (*ALL_TABLES, DIFFERENCES)
"""Every table that has a description."""
