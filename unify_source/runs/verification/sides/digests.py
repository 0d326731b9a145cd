"""Digests of rows as one number, in SQL that some destinations evaluate exactly as DuckDB does.

Both sides of a comparison use the same one. If a destination computed another number than DuckDB,
that would only cost time: its rows are then fetched, and digested by DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

Columns = Mapping[str, tuple[str, str]]
"""By name: each column's SQL expression, and its dlt type."""

# Few enough to fetch a sum for each, and so many that a thousand changes leave most buckets equal.
BUCKETS = 1 << 14
"""The number of buckets that keys are divided into."""

_ARGUMENTS = 50


class Digests(Protocol):
    """Writes the SQL of a digest."""

    def bucket(self, key: str) -> str:
        """Return the number of a key's bucket."""

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. NULLs do not change it."""


class Hashed:
    """DuckDB's own hashes, which are the fastest."""

    def bucket(self, key: str) -> str:
        """Return the number of a key's bucket."""
        return f"CAST(hash({key}) & {BUCKETS - 1} AS INTEGER)"

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. NULLs do not change it."""
        digest = "0::UBIGINT"
        for name, (column, _) in columns.items():
            # Hashed twice: DuckDB combines the hashes of two arguments by XOR, so the digest would
            # stay the same if two columns swapped their values.
            own = f"hash(hash({literal(name)}, {column}))"
            digest = f"xor({digest}, CASE WHEN {column} IS NULL THEN 0::UBIGINT ELSE {own} END)"
        return digest


class Spelled(NamedTuple):
    """MD5 of the values as text, for two databases whose results agree.

    The fields are SQL for one of them: for the length of a text in bytes, the microseconds of an
    instant, the bits of a double, and the number in a string of hexadecimal digits.
    """

    length: str
    instant: str
    double: str
    number: str

    def bucket(self, key: str) -> str:
        """Return the number of a key's bucket."""
        return f"{self.number.format(f'md5({key})', 4, 16, 'INTEGER')} & {BUCKETS - 1}"

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. NULLs do not change it."""
        # `concat` skips NULLs, and takes at most a hundred arguments in Postgres.
        texts = [self._text(name, *columns[name]) for name in sorted(columns)]
        parts = [texts[n : n + _ARGUMENTS] for n in range(0, len(texts), _ARGUMENTS)]
        whole = " || ".join(f"concat({', '.join(part)})" for part in parts)
        return self.number.format(f"md5({whole})", 15, 60, "BIGINT")

    def _text(self, name: str, column: str, kind: str) -> str:
        label = literal(f"{name}=")
        if kind == "text":
            # Only a text can contain what looks like the start of the next column.
            return f"{label} || {self.length.format(column)} || ':' || {column}"
        if kind == "bool":
            is_true, is_false = literal(f"{name}=t;"), literal(f"{name}=f;")
            return f"CASE WHEN {column} THEN {is_true} WHEN NOT {column} THEN {is_false} END"
        spelled = {"timestamp": self.instant, "double": self.double}.get(kind, "{}")
        return f"{label} || CAST({spelled.format(column)} AS VARCHAR) || ';'"


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


HASHED = Hashed()
SPELLED = Spelled(
    length="strlen({})",
    instant="epoch_us({})",
    double="lower(hex(CAST(CAST({} AS BIT) AS BLOB)))",
    number="CAST('0x' || substr({0}, 1, {1}) AS {3})",
)
SPELLED_BY_POSTGRES = Spelled(
    length="octet_length({})",
    # A numeric since Postgres 14, a double before.
    instant="CAST(extract(epoch FROM {}) * 1000000 AS BIGINT)",
    double="encode(float8send({}), 'hex')",
    number="CAST(CAST('x' || substr({0}, 1, {1}) AS BIT({2})) AS {3})",
)
