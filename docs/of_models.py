"""What `generate.py` writes on the models: their definitions and columns, and dbt's sources."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import yaml

from unify_source.common.resources import DESCRIBED, KEY, LEDGER, Table
from unify_source.runs.analysis.models import PACKAGE, Column, models

SOURCES = PACKAGE / "models" / "sources.yml"
_HEADING = "# Written by `make docs` from unify_source/common/resources/.\n"
# A comment that begins with a column's name, and the expression that ends with it.
_DEFINITION = re.compile(
    r"^ *-- (?P<name>\w+): (?P<why>.*\n(?: *-- .*\n)*)(?P<sql>(?:.*\n)*?.*?)(?: as (?P=name)\b)",
    re.MULTILINE,
)


def definitions() -> str:
    """Write every definition with its reason and its SQL, from the comments of the models."""
    return "\n\n".join(
        _definition(found)
        for model in models().values()
        for found in _DEFINITION.finditer(model.sql)
    )


def model_dictionary() -> str:
    """Describe each model that answers a question, and each of its columns."""
    return "\n\n".join(
        f"### `{model.name}`\n\n{model.description}\n\n{_columns(model.columns)}"
        for model in models().values()
        if not model.is_intermediate
    )


def sources() -> str:
    """Return dbt's description of the tables: meaning, keys, references and freshness."""
    tables = [_source(table) for table in DESCRIBED]
    unify = {
        "name": "unify",
        "description": "Unify's sequence enrollments, as unify-source loads them.",
        "schema": "{{ var('unify_dataset') }}",
        "tables": [*tables, _LOADS],
    }
    facts = {"version": 2, "sources": [unify]}
    return f"{_HEADING}{yaml.safe_dump(facts, sort_keys=False, width=100, allow_unicode=True)}"


_LOADS: dict[str, Any] = {
    "name": "_dlt_loads",
    "description": "One row for each load that wrote rows; dlt writes it when the load has ended.",
}
# Of the ledger: a run without changes writes no load, and the tables are fresh all the same.
_FRESHNESS: dict[str, Any] = {
    "loaded_at_field": "finished_at",
    "freshness": {
        "warn_after": {"count": 1, "period": "day"},
        "error_after": {"count": 3, "period": "day"},
        "filter": "outcome = 'succeeded' and kind not in ('verify', 'repair')",
    },
}


def _source(table: Table) -> dict[str, Any]:
    columns = [
        {
            "name": column.name,
            "description": column.description,
            **_tests(column.name, column.references),
        }
        for column in table.columns
        if not column.is_internal
    ]
    freshness = {"config": _FRESHNESS} if table is LEDGER else {}
    return {"name": table.name, "description": table.description, **freshness, "columns": columns}


def _tests(name: str, references: str | None) -> dict[str, Any]:
    if name == KEY:
        return {"data_tests": ["unique", "not_null"]}
    if references:
        to = {"to": f"source('unify', '{references}')", "field": KEY}
        return {"data_tests": [{"relationships": {"arguments": to}}]}
    return {}


def _definition(found: re.Match[str]) -> str:
    why = " ".join(re.sub(r"^ *-- ", "", found["why"], flags=re.MULTILINE).split())
    sql = dedent(found["sql"])
    return f"### `{found['name']}`\n\n{why[0].upper()}{why[1:]}\n\n```\n{sql}\n```"


def _columns(columns: tuple[Column, ...]) -> str:
    rows = [f"| `{c.name}` | {c.data_type} | {c.description} |" for c in columns]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])
