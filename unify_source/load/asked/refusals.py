"""Refuses what a user of dlt asks of a resource if it would lose or double rows, or do nothing.

Each refusal is a ConfigurationError, by name and before the first request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dlt
from dlt.extract import DltResource

from unify_source.common.dlt_seam import feeds
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import ALL_TABLES, Table
from unify_source.destinations.formats import CARRIERS
from unify_source.load.schema.hints import MERGE, column_hints, key_of

Resources = Mapping[str, DltResource]

# A column's part in the merge, beside the key.
_MARKS = ("dedup_sort", "hard_delete")


def checked_hints(
    resources: Resources, *, lake: str | None, account: str | None, chosen: Mapping[str, str]
) -> dict[str, Mapping[str, Any]]:
    """Return the hints of the resources that are ours, by name. Raises ConfigurationError.

    `lake` is the format of a lake's tables. A file format that an earlier run of these resources
    has `chosen` is not the user's.
    """
    checked: dict[str, Mapping[str, Any]] = {}
    for table in ALL_TABLES:
        if resource := resources.get(table.name):
            hints: Any = resource.compute_table_schema()
            if hints.get("file_format") == chosen.get(table.name):
                hints.pop("file_format", None)
            _refuse_disposition(table, hints, is_lake=lake is not None)
            _refuse_keys(table, hints, key_of(account))
            _refuse_marks(table, hints, account)
            _refuse_other_table(table, hints)
            _refuse_format(table, hints, lake)
            _refuse_incremental(table, resource)
            checked[table.name] = hints
        else:
            _refuse_feeding(table, resources)
    return checked


def refuse_lost_tables(schema: dlt.Schema, checked: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ConfigurationError if a contract on new tables would discard the rows of one."""
    for name, hints in checked.items():
        mode = schema.resolve_contract_settings_for_table(name, dict(hints))["tables"]  # type: ignore[arg-type]
        if mode != "evolve" and schema.is_new_table(name):
            raise ConfigurationError(
                f"schema_contract is {mode!r} for tables, and {name} does not exist yet: its rows"
                " would be lost, also to later runs.",
                "Run once without this contract, or select the tables that exist with"
                " with_resources().",
            )


def refuse_reading_apart(table: Table, name: str, resources: Resources) -> None:
    """Raise ConfigurationError if a table's resource has another `name`, or only feeds others."""
    if name != table.name:
        raise ConfigurationError(
            f"The resource {table.name} was renamed to {name!r}, but the tables refer to each other"
            " by their names.",
            "Keep its name, and create a view with the other one.",
        )
    _refuse_feeding(table, resources)


def _refuse_disposition(table: Table, hints: Mapping[str, Any], *, is_lake: bool) -> None:
    disposition, strategy = hints["write_disposition"], hints.get("x-merge-strategy")
    own = (MERGE, "append") if is_lake else (MERGE,)
    strategies = (None, "delete-insert", *(["upsert"] if is_lake else []))
    if hints.get("x-stage-data-deduplicated"):
        strategy = "deduplicated"
    if disposition in own and strategy in strategies:
        return
    asked = strategy if disposition in own else disposition
    raise ConfigurationError(
        f"write_disposition of {table.name} is {asked!r}, but a run reads only what changed, and"
        " some rows twice: rows would be lost or doubled.",
        "Leave it out; to reload everything, run with refresh='drop_data'.",
    )


def _refuse_keys(table: Table, hints: Mapping[str, Any], key: Sequence[str]) -> None:
    columns = hints["columns"].items()
    # With a merge_key as well, dlt would delete every row that shares either key with a loaded row.
    keys = [name for name, hint in columns if hint.get("primary_key") or hint.get("merge_key")]
    if sorted(keys) != sorted(key):
        raise ConfigurationError(
            f"{table.name} would be merged by {' and '.join(keys) or 'no key'}; its key is"
            f" {' and '.join(key)}.",
            "Leave out primary_key and merge_key.",
        )


def _refuse_marks(table: Table, hints: Mapping[str, Any], account: str | None) -> None:
    for mark in _MARKS:
        own = _marked(column_hints(table, account), mark)
        # Where no column has the mark, a user may delete rows by one of their own.
        if own and (asked := _marked(hints["columns"], mark)) != own:
            raise ConfigurationError(
                f"{mark} of {table.name} is {_listed(asked)}, but has to be {_listed(own)}: an"
                " older row would win, or a deleted one stay.",
                f"Leave out {mark}.",
            )


def _marked(columns: Mapping[str, Any], mark: str) -> dict[str, Any]:
    return {name: hint[mark] for name, hint in columns.items() if hint.get(mark)}


def _listed(marked: Mapping[str, Any]) -> str:
    return " and ".join(f"{value!r} on {name}" for name, value in marked.items()) or "on no column"


def _refuse_other_table(table: Table, hints: Mapping[str, Any]) -> None:
    if hints["name"] != table.name:
        raise ConfigurationError(
            f"table_name of {table.name} is {hints['name']!r}, but the tables refer to each other"
            " by their names.",
            "Leave it out, and create a view with that name, or choose another dataset.",
        )
    if parent := hints.get("parent"):
        raise ConfigurationError(
            f"parent_table_name of {table.name} is {parent!r}, but it has a key of its own.",
            "Leave it out.",
        )


def _refuse_format(table: Table, hints: Mapping[str, Any], lake: str | None) -> None:
    of_table = hints.get("table_format")
    if lake and of_table not in (None, lake):
        raise ConfigurationError(
            f"table_format of {table.name} is {of_table!r}, but all tables of a lake are {lake!r}.",
            "Leave it out, and give it to the source: unify_source(table_format=…).",
        )
    asked = hints.get("file_format")
    if asked and asked not in CARRIERS:
        raise ConfigurationError(
            f"loader_file_format is {asked!r}, which does not carry Arrow tables unchanged.",
            f"Leave it out, or choose from {', '.join(CARRIERS)}.",
        )


def _refuse_incremental(table: Table, resource: DltResource) -> None:
    if resource.incremental:
        raise ConfigurationError(
            f"incremental of {table.name} would drop rows that were read, and its cursor would skip"
            " them for good.",
            "Leave it out, and give it to the source: unify_source(updated_at=…).",
        )


def _refuse_feeding(table: Table, resources: Resources) -> None:
    if table.name not in resources and (fed := feeds(table.name, resources.values())):
        raise ConfigurationError(
            f"{fed} is fed by {table.name}, which is not loaded itself: its cursor would skip rows"
            " that its table lacks.",
            f"Select {table.name} too, without write_disposition='skip'.",
        )
