"""What a row holds as one number, by an expression that some destinations compute as DuckDB does.

Both sides of a comparison use one of them. A destination that computed another number than DuckDB
would only be read in vain: rows are then fetched, and compared by what DuckDB makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

Columns = Mapping[str, tuple[str, str]]
"""By their names: what stands for each column in SQL, and its type, dlt's."""

# Few enough to fetch a sum of each, and so many that a thousand changes leave most of them equal.
BUCKETS = 1 << 14
"""Into how many buckets keys are divided."""

_ARGUMENTS = 50


class Digests(Protocol):
    """Writes the SQL of a digest."""

    def bucket(self, key: str) -> str:
        """Return the number of the bucket in which a key is."""

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. A column without a value counts as none."""


class Hashed:
    """DuckDB's own hashes, the quickest."""

    def bucket(self, key: str) -> str:
        """Return the number of the bucket in which a key is."""
        return f"CAST(hash({key}) & {BUCKETS - 1} AS INTEGER)"

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. A column without a value counts as none."""
        digest = "0::UBIGINT"
        for name, (column, _) in columns.items():
            # Once more around it: DuckDB joins the hashes of two arguments by an XOR, so that two
            # columns that exchange their values would leave the digest as it was.
            own = f"hash(hash({literal(name)}, {column}))"
            digest = f"xor({digest}, CASE WHEN {column} IS NULL THEN 0::UBIGINT ELSE {own} END)"
        return digest


class Spelled(NamedTuple):
    """MD5 of the values as text, for two databases that agree on it.

    The fields are SQL of one of them: of a text's bytes, of an instant's microseconds, of the bits
    of a double, and of a number that is written in hexadecimal digits.
    """

    length: str
    instant: str
    double: str
    number: str

    def bucket(self, key: str) -> str:
        """Return the number of the bucket in which a key is."""
        return f"{self.number.format(f'md5({key})', 4, 16, 'INTEGER')} & {BUCKETS - 1}"

    def row(self, columns: Columns) -> str:
        """Return the digest of a row. A column without a value counts as none."""
        # `concat` leaves out what is null, and takes a hundred arguments in Postgres.
        texts = [self._text(name, *columns[name]) for name in sorted(columns)]
        parts = [texts[n : n + _ARGUMENTS] for n in range(0, len(texts), _ARGUMENTS)]
        whole = " || ".join(f"concat({', '.join(part)})" for part in parts)
        return self.number.format(f"md5({whole})", 15, 60, "BIGINT")

    def _text(self, name: str, column: str, kind: str) -> str:
        label = literal(f"{name}=")
        if kind == "text":
            # Only a text can hold what the next column begins with.
            return f"{label} || {self.length.format(column)} || ':' || {column}"
        if kind == "bool":
            is_true, is_false = literal(f"{name}=t;"), literal(f"{name}=f;")
            return f"CASE WHEN {column} THEN {is_true} WHEN NOT {column} THEN {is_false} END"
        spelled = {"timestamp": self.instant, "double": self.double}.get(kind, "{}")
        return f"{label} || CAST({spelled.format(column)} AS VARCHAR) || ';'"


def literal(text: str) -> str:
    """Return a text as it is written in SQL."""
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
    # A number of any length since Postgres 14, and a double before that.
    instant="CAST(extract(epoch FROM {}) * 1000000 AS BIGINT)",
    double="encode(float8send({}), 'hex')",
    number="CAST(CAST('x' || substr({0}, 1, {1}) AS BIT({2})) AS {3})",
)
