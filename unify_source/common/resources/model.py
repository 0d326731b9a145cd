"""The types that declare resources, tables and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

TEXT = pa.string()
FLAG = pa.bool_()
WHOLE = pa.int64()
# The API's precision is not documented. Microseconds are the highest precision that Python and the
# timestamps of DuckDB and Postgres have in common.
INSTANT = pa.timestamp("us", tz="UTC")
DAY = pa.date32()
JSON = pa.json_(TEXT)
"""Whatever the API sends, as its JSON text."""

KEY = "id"
CURSOR = "updated_at"

# Columns with a leading underscore serve the merge, and are not data.
AS_OF = "_as_of"
DELETED = "_deleted"
OWNER = "_enrollment_id"

MISSING_SINCE = "missing_since"
KNOWN_AS_OF = "known_as_of"
NOT_SENT = (MISSING_SINCE, KNOWN_AS_OF)
"""Columns that a run fills in: the API sends no such key."""

JSON_METADATA = {"json": "1"}
"""The metadata of an Arrow field whose text is JSON."""

Path = tuple[str, ...]
"""Keys that lead from a listed object to a value in it."""


@dataclass(frozen=True)
class Column:
    """A documented column, read from the key of its name, or from `path` in the listed row.

    `pii` marks personal data. If it `is_email`, upper and lower case name the same mailbox.
    `references` is the table whose keys its values are.
    """

    name: str
    type: pa.DataType
    description: str
    pii: bool = False
    path: Path | None = None
    references: str | None = None
    is_email: bool = False

    @property
    def is_internal(self) -> bool:
        """Whether only the merge needs it."""
        return self.name.startswith("_")

    @property
    def is_content(self) -> bool:
        """Whether two rows that differ only in it count as different."""
        return not self.is_internal and self.name != KNOWN_AS_OF

    def field(self) -> pa.Field:
        """Return the column as an Arrow field: JSON is text with metadata."""
        is_json = self.type == JSON
        kind, metadata = (TEXT, JSON_METADATA) if is_json else (self.type, None)
        return pa.field(self.name, kind, nullable=self.name != KEY, metadata=metadata)


MARK = Column(DELETED, FLAG, "Marks a row for deletion; null in every row that stays.")
"""The column of tables whose rows die with others, and of the quarantine."""


@dataclass(frozen=True)
class Table:
    """A table of the warehouse.

    `newest` names the column that decides which of two rows with the same key is newer. Rows that
    are deleted with a row of another table have its key in `dies_with`. With `hard_deletes`, loads
    delete single rows.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    newest: str = KNOWN_AS_OF
    dies_with: str | None = None
    hard_deletes: bool = False

    @property
    def is_marked(self) -> bool:
        """Whether loads delete rows of it, which `MARK` marks."""
        return self.hard_deletes or self.dies_with is not None

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the documented columns, in order, without the merge's own."""
        return pa.schema([column.field() for column in self.columns if not column.is_internal])

    def column(self, name: str) -> Column:
        """Return the column with a name."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Part:
    """The objects at a path of a listed row, and the table whose rows they become.

    If `path` leads to a list, each of its items is a row. `only` names the columns that the objects
    have, if they lack some of the table's. A part that `fills_in` adds only rows that the table's
    own list no longer has.
    """

    table: Table
    path: Path = ()
    only: tuple[str, ...] = ()
    fills_in: bool = False

    def columns(self) -> Iterator[Column]:
        """Yield the columns that this part fills."""
        for column in self.table.columns:
            if not self.only or column.name in self.only:
                yield column

    def own(self) -> Iterator[Column]:
        """Yield the columns whose keys are in the object itself."""
        return (column for column in self.columns() if column.path is None)

    def linked(self) -> Iterator[Column]:
        """Yield the columns that are read from elsewhere in the row."""
        return (column for column in self.columns() if column.path is not None)


@dataclass(frozen=True)
class Resource:
    """An endpoint that lists objects, under the key `list_key` of a page.

    A `windowed` list filters by `updated_after` and `updated_before`; any other is read whole.
    `lists` are the keys whose value is a list of objects.
    """

    name: str
    path: str
    list_key: str
    parts: tuple[Part, ...]
    windowed: bool
    lists: tuple[str, ...] = ()

    def promised_type(self, path: Path = ()) -> pa.StructType:
        """Return the nested Arrow type that the API documents for the object at `path`.

        Instants are text here: the API writes them with fractions of any length.
        """
        fields = {
            column.name: TEXT if column.type == INSTANT else column.type
            for part in self.parts
            if part.path == path
            for column in part.own()
            if column.name not in NOT_SENT
        }
        depth = len(path)
        below = {p.path[depth] for p in self.parts if p.path[:depth] == path != p.path}
        for key in sorted(below):
            kind = self.promised_type((*path, key))
            fields[key] = pa.list_(kind) if key in self.lists else kind
        return pa.struct(list(fields.items()))

    def shared(self) -> Iterator[Column]:
        """Yield the columns of a listed row that refer to rows which are deleted with it.

        Two listed rows may refer to the same one.
        """
        dying = {part.table.name for part in self.parts if part.table.dies_with}
        return (c for c in self.parts[0].table.columns if c.references in dying)

    def part_at(self, path: Path) -> Part:
        """Return the part for the objects at `path`."""
        return next(part for part in self.parts if part.path == path)

    def instants(self) -> Iterator[Path]:
        """Yield the path of every value that the API documents as an instant."""
        for part in self.parts:
            for column in part.own():
                if column.type == INSTANT and column.name not in NOT_SENT:
                    yield (*part.path, column.name)


def known_as_of(later: str) -> Column:
    """Return the column that says when a row was read; `later` describes later changes."""
    return Column(KNOWN_AS_OF, INSTANT, f"When this row was read from the API; {later}")


def id_of(whose: str) -> Column:
    """Return the key of a table."""
    return Column(KEY, TEXT, f"The {whose}'s id.")


def person_columns(whose: str) -> tuple[Column, ...]:
    """Return the columns of a person with a name and an address."""
    return (
        Column("email", TEXT, f"The {whose}'s e-mail address.", pii=True, is_email=True),
        Column("first_name", TEXT, "The first name; null if unknown.", pii=True),
        Column("last_name", TEXT, "The last name; null if unknown.", pii=True),
    )
