"""Writes descriptions into the metadata of Delta and Iceberg tables, with their own libraries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from unify_source.common.resources import ALL_TABLES, Table
from unify_source.common.settings import DELTA, ICEBERG
from unify_source.common.settings.accounts import ACCOUNT, DESCRIPTION
from unify_source.destinations.comments.databases import warn_once

_KEYS = {DELTA: "comment", ICEBERG: "doc"}
"""The key of the metadata in which Delta or Arrow has a column's comment."""


def describe_tables(client: Any, names: Collection[str]) -> None:
    """Describe tables and their columns."""
    with _warned(client.dataset_name):
        for table in ALL_TABLES:
            kind = client.schema.tables.get(table.name, {}).get("table_format")
            if table.name in names and (write := _WRITERS.get(kind)):
                write(client.load_open_table(kind, table.name), table)


def describe(opened: Any, kind: str, table: Table, dataset: str) -> None:
    """Describe an open table of a dataset and its columns, if the descriptions differ."""
    with _warned(dataset):
        _WRITERS[kind](opened, table)


def described(rows: pa.Table, kind: str, table: Table) -> pa.Table:
    """Return the first rows of a table, with descriptions in the schema that it is created from.

    Not for an existing table: Delta refuses rows whose comments differ from its own.
    """
    texts = _texts(table)
    fields = [
        item.with_metadata({**(item.metadata or {}), _KEYS[kind]: texts[item.name]})
        if item.name in texts
        else item
        for item in rows.schema
    ]
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))


@contextmanager
def _warned(dataset: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # The libraries' errors have no common base, and a panic of delta-rs is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        warn_once(dataset, error)


def _texts(table: Table) -> Mapping[str, str]:
    return {ACCOUNT: DESCRIPTION, **{c.name: c.description for c in table.columns}}


def _describe_delta(opened: Any, table: Table) -> None:
    from deltalake import Field  # noqa: PLC0415 - an extra

    columns = _texts(table)
    stored = [field for field in opened.schema().fields if field.name in columns]
    texts = {field.name: field.metadata.get(_KEYS[DELTA]) for field in stored}
    # In one commit, because each run on a bucket rereads every commit. Only adding existing columns
    # again can do that, but it cannot change a text.
    if missing := [
        Field(
            field.name,
            field.type,
            nullable=field.nullable,
            metadata={**field.metadata, _KEYS[DELTA]: columns[field.name]},
        )
        for field in stored
        if texts[field.name] is None
    ]:
        opened.alter.add_columns(missing)
    for name, text in texts.items():
        if text not in (None, columns[name]):
            opened.alter.set_column_metadata(name, {_KEYS[DELTA]: columns[name]})
    if opened.metadata().description != table.description:
        opened.alter.set_table_description(table.description)


def _describe_iceberg(opened: Any, table: Table) -> None:
    columns = _texts(table)
    fields = opened.schema().fields
    differ = [field.name for field in fields if columns.get(field.name, field.doc) != field.doc]
    if not differ and opened.properties.get("comment") == table.description:
        return
    with opened.transaction() as transaction:
        transaction.set_properties(comment=table.description)
        with transaction.update_schema() as update:
            for name in differ:
                update.update_column(name, doc=columns[name])


_WRITERS: Mapping[str | None, Callable[[Any, Table], None]] = {
    DELTA: _describe_delta,
    ICEBERG: _describe_iceberg,
}
