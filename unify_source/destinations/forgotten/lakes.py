"""Deletes one person from the tables of a lake, with every version of them that the lake keeps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import BY_NAME, DIFFERENCES, KEY, QUARANTINE, TEXT
from unify_source.destinations.forgotten.databases import KEYS, links
from unify_source.destinations.lakes.tables import Rows, rows_of

_TABLES = {**BY_NAME, DIFFERENCES.name: DIFFERENCES}


def delete_from_lake(client: Any, person_id: str, account: str | None) -> dict[str, int]:
    """Delete all rows of a person, and return how many keys were in each table.

    Rows go before those by which they are found: a second try finds what a first one left.
    """
    tables = {name: rows_of(client, table, account) for name, table in _TABLES.items()}
    stored = {name: rows for name, rows in tables.items() if rows}
    named = {person_id}
    # Twice: the second time finds the rows that die with those found the first time.
    for _ in range(2):
        for name, column in links():
            if name in stored:
                keys = _where(stored[name], KEY, column, named)
                named |= {key.lower() for key in keys}
    gone = {}
    for name, rows in reversed(stored.items()):
        keys = _where(rows, KEYS[name], KEYS[name], named)
        if name == QUARANTINE.name:
            keys |= _naming(rows, person_id)
        rows.erase(sorted(keys), KEYS[name])
        gone[name] = len(keys)
    return {name: gone[name] for name in stored}


def take_back(client: Any, verify_id: str) -> None:
    """Delete the differences that one run of `verify` wrote, if any."""
    if rows := rows_of(client, DIFFERENCES, None):
        rows.erase([verify_id], "verify_id")


def _where(rows: Rows, key: str, column: str, values: Collection[str]) -> set[str]:
    """Return the keys of the rows in which a column has one of these values, in any case."""
    wanted, keys = pa.array(sorted(values), TEXT), set[str]()
    for batch in rows.every(dict.fromkeys([key, column])):
        if not {key, column} <= set(batch.schema.names):
            continue
        lowered = pc.utf8_lower(batch[column].cast(TEXT))
        keys.update(batch[key].filter(pc.is_in(lowered, value_set=wanted)).to_pylist())
    return keys


def _naming(rows: Rows, person_id: str) -> set[str]:
    """Return the keys of the rows in quarantine that name a person anywhere."""
    keys = set[str]()
    for batch in rows.every([KEY, "raw"]):
        named = pc.match_substring(batch["raw"].cast(TEXT), person_id, ignore_case=True)
        keys.update(batch[KEY].filter(named).to_pylist())
    return keys
