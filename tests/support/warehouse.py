"""What the tables hold, and what they should hold by what the API shows: to be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb

from unify_source.resources import INSTANT, TABLES
from unify_source.times import parse_instant

Rows = dict[str, list[tuple[Any, ...]]]

ENTITIES = {
    "sequences": "sequence",
    "people": "person",
    "mailboxes": "mailbox",
    "plays": "enrolled_by_play",
}


def stored(file: Path | str, dataset: str = "unify") -> Rows:
    """Return every promised column of every table, sorted by key."""
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {
            table.name: connection.execute(
                f"SELECT {', '.join(table.schema().names)} FROM {dataset}.{table.name} ORDER BY 1"
            ).fetchall()
            for table in TABLES
        }


def columns(file: Path | str, table: str, dataset: str = "unify") -> dict[str, str]:
    """Return the columns of a table and their types, as DuckDB writes them."""
    with duckdb.connect(str(file), read_only=True) as connection:
        described = connection.execute(f"DESCRIBE {dataset}.{table}").fetchall()
    return {name: kind for name, kind, *_ in described}


def shown(rows: Iterable[dict[str, Any]]) -> Rows:
    """Return what the tables should hold when the API shows these enrollments."""
    made: dict[str, dict[str, tuple[Any, ...]]] = {table.name: {} for table in TABLES}
    for row in rows:
        for table in TABLES:
            for key, values in _READ[table.name](row):
                made[table.name][key] = values
    return {name: [found[key] for key in sorted(found)] for name, found in made.items()}


def _cells(table: str, source: dict[str, Any], **links: Any) -> tuple[str, tuple[Any, ...]]:
    found = next(t for t in TABLES if t.name == table)
    known = {**source, **links}
    values = (_value(known.get(c.name), c.type) for c in found.columns if not c.is_internal)
    return source["id"], tuple(values)


def _value(value: Any, kind: Any) -> Any:
    if value is None or kind != INSTANT:
        return value
    instant = parse_instant(value)
    assert isinstance(instant, datetime)
    return instant.astimezone(timezone.utc)


def _enrollment(row: dict[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    nested = ("sequence", "person", "mailbox", "enrolled_by_play", "reply_email_message")
    return [_cells("enrollments", row, **{f"{n}_id": (row.get(n) or {}).get("id") for n in nested})]


def _entity(table: str) -> Callable[[dict[str, Any]], list[tuple[str, tuple[Any, ...]]]]:
    def read(row: dict[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
        entity = row.get(ENTITIES[table])
        return [_cells(table, entity)] if entity else []

    return read


def _reply(row: dict[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    reply = row.get("reply_email_message")
    return [_cells("reply_email_messages", reply, enrollment_id=row["id"])] if reply else []


def _classifications(row: dict[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    reply = row.get("reply_email_message") or {}
    return [
        _cells("reply_classifications", found, reply_email_message_id=reply["id"])
        for found in reply.get("classifications", [])
    ]


_READ: dict[str, Callable[[dict[str, Any]], list[tuple[str, tuple[Any, ...]]]]] = {
    "enrollments": _enrollment,
    **{table: _entity(table) for table in ENTITIES},
    "reply_email_messages": _reply,
    "reply_classifications": _classifications,
}
