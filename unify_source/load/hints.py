"""The hints that dlt gets for each table: key, merge, columns with their meaning, references.

All of it follows from the facts in `resources/`, so that the schema, a catalogue and the data
dictionary say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from unify_source.accounts import ACCOUNT, DESCRIPTION, only
from unify_source.errors import ConfigurationError
from unify_source.load.schema import source_hints
from unify_source.resources import (
    ALL_TABLES,
    DELETED,
    FLAG,
    INSTANT,
    JSON,
    KEY,
    QUARANTINE,
    TEXT,
    WHOLE,
    Column,
    Table,
)
from unify_source.state.loaded_with import HINT, LoadedWith

MERGE = "merge"

_DLT_TYPES = {TEXT: "text", FLAG: "bool", WHOLE: "bigint", INSTANT: "timestamp", JSON: "json"}
_DELETED = Column(DELETED, FLAG, "Marks a row for deletion; null in every row that stays.")


def column_hints(table: Table, account: str | None = None) -> dict[str, Any]:
    """Return dlt's hints for every column of a table: type, meaning, PII mark, use in the merge."""
    own = [Column(ACCOUNT, TEXT, DESCRIPTION)] if account else []
    mark = [_DELETED] if table.dies_with or table is QUARANTINE else []
    columns = {column.name: _hint(column) for column in (*own, *table.columns, *mark)}
    # Of two rows with one key, dlt keeps an arbitrary one unless a column says which is newer.
    columns[table.newest]["dedup_sort"] = "desc"
    if DELETED in columns:
        columns[DELETED]["hard_delete"] = True
    return columns


def _hint(column: Column) -> dict[str, Any]:
    hint = {
        "name": column.name,
        "data_type": _DLT_TYPES[column.type],
        "nullable": column.name not in (KEY, ACCOUNT),
        "description": column.description,
    }
    return {**hint, "x-annotation-pii": True} if column.pii else hint


def references(table: Table) -> list[Any]:
    """Return the references of a table to the keys of others, as dlt draws them."""
    return [
        {
            "columns": [column.name],
            "referenced_table": column.references,
            "referenced_columns": [KEY],
            "cardinality": "many_to_one",
        }
        for column in table.columns
        if column.references
    ]


def key_of(account: str | None) -> list[str]:
    """Return the columns that are the key of every table."""
    return [ACCOUNT, KEY] if account else [KEY]


def merge_disposition(table: Table, account: str | None = None) -> Any:
    """Return how a database merges a table: rows are replaced by key, children with their owner."""
    # Not "upsert", which has no scope: a reply that is gone from the API would stay.
    merge = {"disposition": MERGE, "strategy": "delete-insert"}
    if owner := table.dies_with:
        merge["destination_scope"] = _scope(owner, account)
    return merge


def _scope(owner: str, account: str | None) -> str:
    # By its own key too: a reply may have moved here from another enrollment. Not two conditions
    # with OR, for which Postgres would scan the loaded rows again for every stored row.
    loaded = f"SELECT {KEY} FROM {{staging_table}}"  # noqa: S608 - our own names
    stored = f"SELECT stored.{KEY} FROM {{table}} AS stored"  # noqa: S608 - our own names
    same_owner = f"JOIN {{staging_table}} AS loaded ON stored.{owner} = loaded.{owner}"
    # The staging table holds rows of one account; only the table itself holds others.
    of_account = f"{only(account)} AND " if account else ""
    if account:
        same_owner += f" AND {only(account, 'stored')}"
    return f"{of_account}{KEY} IN ({loaded} UNION ALL {stored} {same_owner})"


def json_as_text(table: Table) -> dict[str, Any]:
    """Return hints that make text of the JSON columns which a table promises."""
    promised = [column.name for column in table.columns if column.type == JSON]
    return {name: {"name": name, "data_type": "text"} for name in promised}


def new_columns(rows: pa.Table) -> dict[str, Any]:
    """Return hints for what Arrow's types do not show: JSON, and the source of a new column.

    dlt stores them with its schema, where the next run looks up the column of each key.
    """
    return {name: {"name": name, **hints} for name, hints in source_hints(rows.schema).items()}


def described(resource: DltResource, table: Table, account: str | None) -> DltResource:
    """Give a resource the hints of its table."""
    resource.apply_hints(
        primary_key=key_of(account),
        write_disposition=merge_disposition(table, account),
        columns=column_hints(table, account),
        references=references(table),
        additional_table_hints={
            "description": table.description,
            # dlt writes the other one on Databricks alone.
            "x-bigquery-table-description": table.description,
        },
    )
    return resource


def all_checked(
    resources: Mapping[str, DltResource],
    *,
    is_lake: bool,
    carriers: Sequence[str],
    account: str | None,
) -> dict[str, Mapping[str, Any]]:
    """Return the hints of the resources that are ours, by name. Raises ConfigurationError."""
    return {
        table.name: _checked_hints(
            resources[table.name], table, is_lake=is_lake, carriers=carriers, key=key_of(account)
        )
        for table in ALL_TABLES
        if table.name in resources
    }


def _checked_hints(
    resource: DltResource,
    table: Table,
    *,
    is_lake: bool,
    carriers: Sequence[str],
    key: Sequence[str],
) -> Mapping[str, Any]:
    """Return the hints of a resource, refusing those that lose or double rows, or do nothing.

    Raises ConfigurationError, by name and before the first request.
    """
    hints = resource.compute_table_schema()
    _refuse_disposition(table, hints, is_lake=is_lake)
    columns = hints["columns"].items()
    # With a merge_key as well, dlt would delete every row that shares either key with a loaded row.
    keys = [name for name, hint in columns if hint.get("primary_key") or hint.get("merge_key")]
    if sorted(keys) != sorted(key):
        raise ConfigurationError(
            f"{table.name} would be merged by {' and '.join(keys) or 'no key'}; its key is"
            f" {' and '.join(key)}.",
            "Leave out primary_key and merge_key.",
        )
    if hints["name"] != table.name:
        raise ConfigurationError(
            f"table_name of {table.name} is {hints['name']!r}, but the tables refer to each other"
            " by their names.",
            "Leave it out, and create a view with that name, or choose another dataset.",
        )
    asked = hints.get("file_format")
    if asked and asked not in carriers:
        raise ConfigurationError(
            f"loader_file_format is {asked!r}, which does not carry Arrow tables unchanged.",
            f"Leave it out, or choose from {', '.join(carriers)}.",
        )
    return hints


def _refuse_disposition(table: Table, hints: Mapping[str, Any], *, is_lake: bool) -> None:
    disposition, strategy = hints["write_disposition"], hints.get("x-merge-strategy")
    own = ("merge", "append") if is_lake else ("merge",)
    strategies = (None, "delete-insert", *(["upsert"] if is_lake else []))
    if disposition in own and strategy in strategies:
        return
    asked = strategy if disposition in own else disposition
    raise ConfigurationError(
        f"write_disposition of {table.name} is {asked!r}, but a run reads only what changed, and"
        " some rows twice: rows would be lost or doubled.",
        "Leave it out; to reload everything, run with refresh='drop_data'.",
    )


def note_privacy(resources: Iterable[DltResource], noted: Mapping[str, LoadedWith]) -> None:
    """Give the tables of these resources the hint that records how they were loaded."""
    for resource in resources:
        if resource.name in noted:
            resource.apply_hints(additional_table_hints={HINT: noted[resource.name].as_hint()})


def with_hints(rows: pa.Table, **hints: Any) -> Any:
    """Return rows to yield from a resource, with hints that are only known with them."""
    return dlt.mark.with_hints(rows, dlt.mark.make_hints(**hints))
