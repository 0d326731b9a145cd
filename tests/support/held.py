"""The rows that a dataset holds at a moment, and those that a run has taken away from it."""

from __future__ import annotations

import re
from typing import Any

from destinations import Destination
from warehouse import shown

from unify_source.common.resources import TABLES
from unify_source.sandbox import Account

Held = dict[str, dict[str, Any]]
"""The keys of each table, and the enrollment that a row of it is deleted with."""

# Among plain files, one that a killed run has not written completely fails every reader, until the
# next run deletes it. Nobody reads fewer rows.
_INCOMPLETE = re.compile("No magic bytes|too small to be a Parquet file")


def held(warehouse: Destination) -> Held | None:
    """Return the contents of the tables that exist so far; None if no reader gets any."""
    rows: Held = {}
    for table in TABLES:
        owner = [table.dies_with] if table.dies_with else []
        try:
            read = warehouse.reads(table.name, ["id", *owner])
        except Exception as error:  # noqa: BLE001 - each destination has its own for a missing table
            if _INCOMPLETE.search(str(error)):
                return None
        else:
            rows[table.name] = {key: next(iter(at), None) for key, *at in read}
    return rows


def lost(before: Held | None, after: Held | None, account: Account) -> Held:
    """Return the rows that a run has removed although the API still shows them in the same place.

    A reply that moved from one enrollment to another may be under way between two windows.
    """
    missing: Held = {}
    if before is None or after is None:
        return missing
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
