"""The hints that dlt gets for each table: key, merge, columns with their meaning, references.

All of it follows from the facts in `common/resources/`, so that the schema, a catalogue and the
data dictionary say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from unify_source.common.resources import (
    DELETED,
    FLAG,
    INSTANT,
    JSON,
    KEY,
    LISTS,
    MAIN_LIST,
    MARK,
    QUARANTINE,
    TEXT,
    WHOLE,
    Column,
    Resource,
    Table,
)
from unify_source.common.settings.accounts import ACCOUNT, DESCRIPTION, only
from unify_source.load.schema.warehouse import source_hints
from unify_source.load.state.loaded_with import HINT, LoadedWith

MERGE = "merge"

_DLT_TYPES = {TEXT: "text", FLAG: "bool", WHOLE: "bigint", INSTANT: "timestamp", JSON: "json"}
# Not the keys of which the load has only rows that are marked. The others have no mark, not false.
_KEPT = (
    f" AND {KEY} NOT IN (SELECT {KEY} FROM {{staging_table}} GROUP BY {KEY}"  # noqa: S608 - our own names
    f" HAVING count({DELETED}) = count(*))"
)


def column_hints(table: Table, account: str | None = None) -> dict[str, Any]:
    """Return dlt's hints for every column of a table: type, meaning, PII mark, use in the merge."""
    own = [Column(ACCOUNT, TEXT, DESCRIPTION)] if account else []
    mark = [MARK] if table.is_marked else []
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


def merge_disposition(
    table: Table, account: str | None = None, *, leaves_marked: bool = False
) -> Any:
    """Return how a database merges a table: rows are replaced by key, children with their owner.

    If it `leaves_marked`, the stored versions of rows that are marked `as_stored` stay.
    """
    # Not "upsert", which has no scope: a reply that is gone from the API would stay.
    merge = {"disposition": MERGE, "strategy": "delete-insert"}
    if owner := table.dies_with:
        merge["destination_scope"] = _scope(owner, account) + (_KEPT if leaves_marked else "")
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


def new_columns(rows: pa.Schema) -> dict[str, Any]:
    """Return hints for what Arrow's types do not show: JSON, and the source of a new column.

    dlt stores them with its schema, where the next run looks up the column of each key.
    """
    return {name: {"name": name, **hints} for name, hints in source_hints(rows).items()}


def described(resource: DltResource, table: Table, account: str | None) -> None:
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


def add_location(resource: DltResource, table: Table, base_url: str) -> None:
    """Tell dlt's trace which endpoints the rows of a table come from."""
    fed_by = [each for each in LISTS if table.name in tables_of(each)]
    resource.add_input(
        {  # type: ignore[typeddict-unknown-key]
            "kind": "rest_api",
            "resource_name": table.name,
            "location": base_url,
            "endpoints": [each.path for each in fed_by],
        }
    )


def tables_of(resource: Resource) -> frozenset[str]:
    """Return the tables that an endpoint's rows become, with the one for what cannot be read."""
    names = {part.table.name for part in resource.parts}
    return frozenset(names | {QUARANTINE.name} if resource is MAIN_LIST else names)


def note_privacy(resources: Iterable[DltResource], noted: Mapping[str, LoadedWith]) -> None:
    """Give the tables of these resources the hint that records how they were loaded."""
    for resource in resources:
        if resource.name in noted:
            resource.apply_hints(additional_table_hints={HINT: noted[resource.name].as_hint()})


def add_hints(resource: DltResource, **hints: Any) -> None:
    """Give a resource hints that are only known with its rows, before it yields them.

    Not with `dlt.mark.with_hints`: dlt would give them to the transformers that it feeds, too.
    """
    resource.merge_hints(dlt.mark.make_hints(**hints))
