"""The page on tables describes the tables that a load creates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import dlt
from conftest import KEY
from generate import ALL, TYPES
from pages import blocks, code, page, rows_of, section
from warehouse import columns

from unify_source import make_models, sync
from unify_source.common.resources import ALL_TABLES
from unify_source.sandbox import DRIFTS, Account, Sandbox

PAGE = page("tables")
IN_DUCKDB = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "bigint": "BIGINT",
    "date": "DATE",
    "json": "JSON",
}

Serve = Callable[..., Sandbox]


def described(table: str) -> list[list[str]]:
    """Return the page's rows on the columns of a table."""
    heading = ("column", "type", "PII", "references", "meaning")
    return rows_of(section(PAGE, f"`{table}`"), *heading)


def test_every_column_has_its_type_and_a_sentence() -> None:
    for table in ALL:
        rows = described(table.name)
        columns_of = [column for column in table.columns if not column.is_internal]
        assert [code(name) for name, *_ in rows] == [column.name for column in columns_of]
        assert [row[1] for row in rows] == [TYPES[column.type] for column in columns_of]
        assert [bool(row[2]) for row in rows] == [column.pii for column in columns_of]
        assert all(re.fullmatch(r"[A-Z`].*\.", meaning) for *_, meaning in rows)


def test_a_load_creates_the_listed_columns_and_types(serve: Serve, pipeline: dlt.Pipeline) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(50)).url)
    # The table of differences comes with the first of them, or with the models.
    make_models(pipeline)

    for table in ALL:
        stored = columns("unify_gtm.duckdb", table.name)
        data = {name: kind for name, kind in stored.items() if not name.startswith("_")}
        listed = {code(name): IN_DUCKDB[kind] for name, kind, *_ in described(table.name)}
        assert data == listed


def test_every_column_that_serves_the_merge_is_listed(serve: Serve, pipeline: dlt.Pipeline) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(50)).url)

    stored = {c for table in ALL_TABLES for c in columns("unify_gtm.duckdb", table.name)}
    internal = {name for name in stored if name.startswith("_")}

    named = set(re.findall(r"`(_\w+)`", section(PAGE, "Internal columns and tables")))
    assert {"_as_of", "_deleted", "_enrollment_id"} <= internal <= named


def test_the_diagram_draws_every_column_with_its_type_and_key() -> None:
    [diagram] = blocks("mermaid", PAGE)
    tables = re.findall(r"^    (\w+) \{\n(.*?)^    \}", diagram, re.DOTALL | re.MULTILINE)
    drawn = {name: [line.split() for line in body.strip().splitlines()] for name, body in tables}

    assert list(drawn) == [table.name for table in ALL]
    for name, lines in drawn.items():
        rows = described(name)
        assert [line[:2] for line in lines] == [[kind, code(column)] for column, kind, *_ in rows]
        keys = ["PK" if code(row[0]) == "id" else "FK" if row[3] else "" for row in rows]
        assert ["".join(line[2:]) for line in lines] == keys


def test_the_diagram_joins_the_tables_along_their_links() -> None:
    [diagram] = blocks("mermaid", PAGE)
    links = {
        (column.references, table.name, column.name)
        for table in ALL
        for column in table.columns
        if column.references
    }

    # A reply and its enrollment name each other; one line is enough.
    links.remove(("reply_email_messages", "enrollments", "reply_email_message_id"))
    assert set(re.findall(r"^    (\w+) [|o{}-]+ (\w+) : (\w+)$", diagram, re.MULTILINE)) == links


def test_new_fields_become_the_columns_that_are_shown(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(Account(50), reshape=DRIFTS["new-fields"])
    sync(pipeline, api_key=KEY, base_url=api.url)

    rows = rows_of(section(PAGE, "New fields"), "sent", "column", "type in DuckDB")
    listed = {code(name): kind for _, name, kind in rows}
    for table in ("enrollments", "people", "reply_email_messages"):
        stored = columns("unify_gtm.duckdb", table)
        assert listed == {name: stored.get(name) for name in listed}
    assert "beta_nothing" not in columns("unify_gtm.duckdb", "enrollments")
    for sent, name, _ in rows:
        [key] = json.loads(f"{{{code(sent)}}}")
        assert code(name).split("__")[0] == key
