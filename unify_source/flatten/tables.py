"""Makes Arrow tables for the merge: with its own columns, empty, or of rows to delete. Pure."""

from __future__ import annotations

import pyarrow as pa

from unify_source.common.resources import (
    AS_OF,
    DELETED,
    FLAG,
    INSTANT,
    JSON_METADATA,
    KEY,
    TEXT,
    Table,
)
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.times import EPOCH


def empty(table: Table, *, json_columns: bool = True) -> pa.Table:
    """Return the table without rows, with every column that a full one has."""
    schema = table.schema() if json_columns else _without_metadata(table.schema())
    return with_merge_columns(table, schema.empty_table())


def marked_deleted(table: Table, keys: pa.Table) -> pa.Table:
    """Make rows that delete others from a table, by their keys and owners."""
    return tombstones(table, {name: keys[name] for name in keys.schema.names})


def tombstones(table: Table, known: dict[str, pa.Array]) -> pa.Table:
    """Make rows that are marked deleted, null except in the known columns."""
    length = len(known[KEY])
    schema = empty(table).schema
    columns = [
        pa.repeat(pa.scalar(value=True), length)
        if item.name == DELETED
        else known.get(item.name, pa.nulls(length, item.type))
        for item in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def as_stored(rows: pa.Table) -> pa.Table:
    """Mark rows of a table whose rows die with an owner: the merge leaves the stored versions.

    Another version in the same load counts, however old it is.
    """
    marks = pa.repeat(pa.scalar(value=True), len(rows))
    oldest = pa.repeat(pa.scalar(EPOCH, INSTANT), len(rows))
    return filled(filled(rows, DELETED, marks), AS_OF, oldest)


def filled(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Fill a column that the API does not send, though a user's step has dropped it."""
    index = rows.schema.get_field_index(name)
    if index < 0:
        return rows.append_column(name, values)
    return rows.set_column(index, rows.schema.field(index), values)


def with_merge_columns(table: Table, rows: pa.Table) -> pa.Table:
    """Add the columns that the merge of the table needs, if any."""
    if table.is_marked:
        for column in table.columns:
            if column.name not in rows.schema.names:
                rows = rows.append_column(column.field(), pa.nulls(len(rows), column.type))
        # Null in every row that stays: a merge reads it as false, and the column takes no room.
        rows = rows.append_column(pa.field(DELETED, FLAG), pa.nulls(len(rows), FLAG))
    return rows


def with_account(rows: pa.Table, account: str | None) -> pa.Table:
    """Add the column that says whose rows they are, first, if a dataset has several accounts.

    Rows that have it already, as those of other accounts' runs, are left as they are.
    """
    if not account or ACCOUNT in rows.schema.names:
        return rows
    column = pa.field(ACCOUNT, TEXT, nullable=False)
    return rows.add_column(0, column, pa.repeat(pa.scalar(account, TEXT), len(rows)))


def is_json(item: pa.Field) -> bool:
    """Tell whether a field's text is JSON."""
    mark = {name.encode(): value.encode() for name, value in JSON_METADATA.items()}
    return mark.items() <= dict(item.metadata or {}).items()


def _without_metadata(schema: pa.Schema) -> pa.Schema:
    return pa.schema([item.remove_metadata() for item in schema])
