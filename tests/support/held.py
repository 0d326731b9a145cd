"""The rows that a dataset holds at a moment, and those that a run has taken away from it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from destinations import Destination
from warehouse import shown

from unify_source.resources import TABLES
from unify_source.sandbox import Account

Held = dict[str, dict[str, Any]]
"""The keys of each table, and the enrollment that a row of it is deleted with."""


def held(warehouse: Destination) -> Held:
    """Return the contents of the tables that exist so far."""
    rows: Held = {}
    for table in TABLES:
        columns = ["id", table.dies_with or "NULL"]
        # What says that a table is not there differs from one destination to another.
        with suppress(Exception):
            rows[table.name] = dict(warehouse.reads(table.name, columns))
    return rows


def lost(before: Held, after: Held, account: Account) -> Held:
    """Return the rows that a run has removed although the API still shows them in the same place.

    A reply that moved from one enrollment to another may be under way between two windows.
    """
    missing: Held = {}
    for name, rows in _shown(account).items():
        stood = {key: at for key, at in before.get(name, {}).items() if rows.get(key, "") == at}
        if gone := stood.keys() - after.get(name, {}).keys():
            missing[name] = {key: stood[key] for key in gone}
    return missing


def _shown(account: Account) -> Held:
    rows: Held = {name: {row[0]: None for row in rows} for name, rows in shown(account).items()}
    for row in account.rows():
        if reply := row["reply_email_message"]:
            rows["reply_email_messages"][reply["id"]] = row["id"]
            for classification in reply["classifications"]:
                rows["reply_classifications"][classification["id"]] = row["id"]
    return rows
