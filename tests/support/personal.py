"""Personal texts: rows that hold them in every place, and a search for them in all that is kept."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from destinations import DuckDB, Postgres

from unify_source.sandbox import Account

Row = dict[str, Any]

# A shorter name stands in all kinds of words.
_SHORTEST = 5
_PLACES = ("person", "mailbox", "reply_email_message", "cc", "sender", "is_paused", "updated_at")
_ODD_ONES_IN = 3


def reshaped(row: Row) -> Row:
    """Return a row with new fields that are personal; some also break a promise by such a text."""
    number = int(row["id"][:8], 16)
    address = f"Secret.{number}@Private.Example"
    person = {
        **(row["person"] or {}),
        "nickname": f"Nick-{number}",
        "phones": [f"+1 555 {number}"],
        "employer": {"chief": address, "offices": {address: 7}},
        "score": number + 0.5,
    }
    changed = {**row, "person": person, "cc": [address], "sender": {"name": f"Sender-{number}"}}
    odd: tuple[Row, ...] = (
        {"is_paused": address},
        {"mailbox": address},
        {"updated_at": address},
        {"id": None, "is_paused": address},
        {"sender": json.loads("[" * 80 + json.dumps(address) + "]" * 80)},
    )
    chosen, rest = divmod(number, _ODD_ONES_IN)
    return {**changed, **odd[chosen % len(odd)]} if rest == 0 else changed


def personal(account: Account) -> set[str]:
    """Return the personal texts of an account, as `reshaped` sends it."""
    rows = [reshaped(row) for row in account.rows()]
    texts = {text for row in rows for place in _PLACES for text in _texts(row.get(place))}
    return texts | {text for row in account.sequences() for text in _texts(row["owner"])}


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts that only a person has: no ids, no times, no numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("id", "category", "received_at"):
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str) and len(value) >= _SHORTEST and not value[:4].isdecimal():
        yield value


def found_in(texts: Iterable[str], haystack: str) -> set[str]:
    """Return those of the texts that are there, in any spelling of JSON or of Python."""
    # As bytes: the search for a text that is not there is many times faster in them.
    whole = haystack.encode(errors="replace")
    return {t for t in texts if any(f in whole for f in {t.encode(), ascii(t)[1:-1].encode()})}


def stored_text(warehouse: DuckDB | Postgres) -> str:
    """Return all that a database holds, dlt's own tables and its state included, as one text."""
    tables = warehouse.ask(
        "SELECT table_schema, table_name FROM information_schema.tables"
        " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    rows = (row for table in tables for row in warehouse.ask("SELECT * FROM {}.{}".format(*table)))
    text = "\n".join(_opened(value) for row in rows for value in row)
    file = Path(warehouse.environment.get("DESTINATION__DUCKDB__CREDENTIALS", "."))
    return text + (file.read_bytes().decode(errors="replace") if file.is_file() else "")


def kept_text(folder: Path) -> str:
    """Return all that the files in a folder hold, packed ones unpacked, as one text."""
    return "\n".join(_read(path) for path in sorted(folder.rglob("*")) if path.is_file())


def _read(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".parquet":
        return f"{path.name} {pq.read_table(path).to_pylist()}"
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    return f"{path.name} {content.decode(errors='replace')}"


def _opened(value: Any) -> str:
    try:
        return zlib.decompress(base64.b64decode(value, validate=True)).decode()
    except (ValueError, TypeError, zlib.error):
        return str(value)
