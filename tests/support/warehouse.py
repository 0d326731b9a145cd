"""The contents of the tables, and the contents expected from the API's rows, for comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb

from unify_source.common.resources import (
    BY_NAME,
    INSTANT,
    JSON,
    LISTED_TABLES,
    TABLES,
    Column,
    Table,
)
from unify_source.common.resources.model import NOT_SENT
from unify_source.common.times import parse_instant
from unify_source.sandbox import Account

Rows = dict[str, list[tuple[Any, ...]]]

Object = dict[str, Any]

SHOWN = (*TABLES, *LISTED_TABLES)


def compared(table: Table) -> list[Column]:
    """Return the columns whose values the API alone says."""
    return [c for c in table.columns if not c.is_internal and c.name not in NOT_SENT]


def stored(file: Path | str, dataset: str = "unify") -> Rows:
    """Return every promised column of every table, sorted by key."""
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = {
            table.name: connection.execute(
                f"SELECT {', '.join(c.name for c in compared(table))} FROM {dataset}.{table.name}"
                " ORDER BY 1"
            ).fetchall()
            for table in SHOWN
        }
    return {
        name: [comparable(BY_NAME[name], row) for row in of_table]
        for name, of_table in rows.items()
    }


def comparable(table: Table, row: Iterable[Any]) -> tuple[Any, ...]:
    """Return a row with its JSON written as `shown` writes it."""
    return tuple(
        json.dumps(json.loads(value) if isinstance(value, str) else value, sort_keys=True)
        if column.type == JSON and value is not None
        else value
        for column, value in zip(compared(table), row, strict=True)
    )


def columns(file: Path | str, table: str, dataset: str = "unify") -> dict[str, str]:
    """Return the columns of a table and their types, as DuckDB writes them."""
    return columns_by_table(file, dataset)[table]


def columns_by_table(file: Path | str, dataset: str = "unify") -> dict[str, dict[str, str]]:
    """Return the columns of each table and their types, as DuckDB writes them."""
    described: dict[str, dict[str, str]] = {}
    with duckdb.connect(str(file), read_only=True) as connection:
        for table, name, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            f" WHERE schema_name = '{dataset}' ORDER BY table_name, column_index"
        ).fetchall():
            described.setdefault(table, {})[name] = kind
    return described


def shown(api: Account | Iterable[Object], listed: Iterable[Object] = ()) -> Rows:
    """Return the expected contents of the tables for these enrollments and sequences.

    An account shows all of its own.
    """
    rows = api.rows() if isinstance(api, Account) else api
    if isinstance(api, Account):
        listed = api.sequences()
    tables: dict[str, dict[str, tuple[Any, ...]]] = {table.name: {} for table in SHOWN}
    for row in rows:
        for name, path, links in _IN_AN_ENROLLMENT:
            _note(tables, name, row, path, links)
    for row in listed:
        for name, path, links in _IN_A_SEQUENCE:
            _note(tables, name, row, path, links)
    return {name: [by_key[key] for key in sorted(by_key)] for name, by_key in tables.items()}


def _note(
    tables: Any, name: str, row: Object, path: tuple[str, ...], links: dict[str, str]
) -> None:
    for source in _objects(row, path):
        linked = {column: _at(row, place.split(".")) for column, place in links.items()}
        known = {**source, **linked}
        values = (_value(known.get(c.name), c.type) for c in compared(BY_NAME[name]))
        tables[name][source["id"]] = tuple(values)


def _objects(row: Object, path: tuple[str, ...]) -> list[Object]:
    value = _at(row, path)
    return value if isinstance(value, list) else [value] if value else []


def _at(row: Any, path: Iterable[str]) -> Any:
    for key in path:
        row = (row or {}).get(key)
    return row


def _value(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if kind == JSON:
        return json.dumps(value, sort_keys=True)
    if kind != INSTANT:
        return value
    instant = parse_instant(value)
    assert isinstance(instant, datetime)
    return instant.astimezone(timezone.utc)


_REPLY = "reply_email_message"
_IN_AN_ENROLLMENT: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    (
        "enrollments",
        (),
        {
            f"{key}_id": f"{key}.id"
            for key in ("sequence", "person", "mailbox", "enrolled_by_play", _REPLY)
        },
    ),
    ("sequences", ("sequence",), {}),
    ("people", ("person",), {}),
    ("mailboxes", ("mailbox",), {}),
    ("plays", ("enrolled_by_play",), {}),
    ("reply_email_messages", (_REPLY,), {"enrollment_id": "id"}),
    ("reply_classifications", (_REPLY, "classifications"), {f"{_REPLY}_id": f"{_REPLY}.id"}),
]
_IN_A_SEQUENCE: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    (
        "sequences",
        (),
        {f"{key}_id": f"{key}.id" for key in ("owner", "send_schedule", "sequence_ruleset")},
    ),
    ("users", ("owner",), {}),
    ("send_schedules", ("send_schedule",), {}),
    ("sequence_rulesets", ("sequence_ruleset",), {}),
]
