"""The data dictionary is written as comments where a destination has them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import sqlglot
from damage import found, verified
from destinations import DuckDB, Postgres, opened
from hypothesis import example, given
from hypothesis import strategies as st
from lakes import Delta, DeltaOnS3, Iceberg
from standing import account, load
from warehouses import BigQuery, ClickHouse

from unify_source.common.dlt_seam import kind_of
from unify_source.common.resources import ALL_TABLES, BY_NAME, DIFFERENCES
from unify_source.destinations.comments import keep_described
from unify_source.destinations.comments.databases import COMMENTS, TABLE, describe
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]

LAKES = (Delta, Iceberg)
IN_LANE = (ClickHouse, BigQuery, DeltaOnS3, *LAKES)
# None can hold U+0000, and Python has halves of characters that no database has.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
ODD = "it's `one`; \\' %s %% {0} \\n\n\t\"two\" -- /* $$ ; \\"


@pytest.fixture
def postgres(request: pytest.FixtureRequest, home: Path) -> Iterator[Postgres]:
    """Yield an empty database."""
    with opened(Postgres, home, request) as database:
        yield database


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", IN_LANE, indirect=True, ids=[d.name for d in IN_LANE])
def test_tables_and_columns_explain_themselves_in_warehouses_and_lakes(
    serve: Serve, warehouse: Any
) -> None:
    load(warehouse, serve(account(40)))

    for table in ALL_TABLES:
        # The emulator keeps the description of a table, and leaves out those of its columns.
        is_partial = isinstance(warehouse, BigQuery)
        columns = {column.name: column.description for column in table.columns if not is_partial}
        expected = {"": table.description, **columns}
        comments = warehouse.comments(table.name)
        assert {name: comments[name] for name in expected} == expected


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", LAKES, indirect=True, ids=[lake.name for lake in LAKES])
def test_a_comment_in_a_lake_is_rewritten_only_if_it_differs(serve: Serve, warehouse: Any) -> None:
    api = serve(account(40))
    load(warehouse, api)
    warehouse.comment("people", "email", "Of an older version.")
    warehouse.strip("plays")
    written = _versions(warehouse)

    load(warehouse, api)
    rewritten = _versions(warehouse)
    load(warehouse, api)

    for table in (BY_NAME["people"], BY_NAME["plays"]):
        expected = {column.name: column.description for column in table.columns}
        assert warehouse.comments(table.name) == {"": table.description, **expected}
    assert {name for name in written if rewritten[name] > written[name]} == {"people", "plays"}
    assert _versions(warehouse) == rewritten


def _versions(lake: Any) -> dict[str, int]:
    return {name: len(lake.versions(name)) for name in BY_NAME}


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", [Delta], indirect=True)
def test_a_lake_that_cannot_be_described_is_warned_of_once(
    serve: Serve, warehouse: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api = serve(account(40))
    load(warehouse, api)
    for name in ("people", "plays"):
        warehouse.comment(name, "id", "Of an older version.")
        log = Path(warehouse.place, name, "_delta_log")
        newer = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 99}}
        (log / f"{len(list(log.glob('*.json'))):020}.json").write_text(json.dumps(newer))

    with caplog.at_level(logging.WARNING, "unify_source"):
        load(warehouse, api)

    warned = [each.getMessage() for each in caplog.records if "comments" in each.getMessage()]
    assert len(warned) == 1
    assert warned[0].startswith("No comments in unify: ")


@pytest.mark.parametrize(
    "warehouse",
    [DuckDB, Postgres, pytest.param(ClickHouse, marks=ClickHouse.lane)],
    indirect=True,
    ids=["duckdb", "postgres", "ClickHouse's engine"],
)
def test_any_text_is_in_a_comment_as_it_was_written(warehouse: Any) -> None:
    pipeline = warehouse.pipeline()
    kind = kind_of(pipeline.destination)
    with pipeline.sql_client() as client:
        if not client.has_dataset():
            client.create_dataset()
        place = client.make_qualified_table_name("one")
        key = "id String) ENGINE = Memory" if kind == "clickhouse" else "id text)"
        client.execute_sql(f"CREATE TABLE {place} ({key}")

        @example(ODD, ODD)
        @given(texts, texts)
        def stands(of_table: str, of_column: str) -> None:
            describe(client, kind, TABLE, {("one", ""): of_table, ("one", "id"): of_column})
            [schema, name] = client.make_qualified_table_name_path("one", quote=False)[-2:]
            stored = COMMENTS[kind].known(client, schema)
            assert (stored[name, ""], stored[name, "id"]) == (of_table, of_column)

        stands()


@given(texts, texts)
@example(ODD, ODD)
def test_any_text_is_one_literal_to_a_parser_of_a_warehouse_that_does_not_run_here(
    of_table: str, of_column: str
) -> None:
    for kind in ("redshift", "snowflake"):
        for column, text in (("", of_table), ('"id"', of_column)):
            statement = COMMENTS[kind].statement(TABLE, '"unify"."people"', column, text)
            [parsed] = sqlglot.parse(statement, read=kind)
            assert isinstance(parsed, sqlglot.exp.Comment)
            assert parsed.expression.this == text


def test_the_differences_that_a_verify_found_explain_themselves(
    serve: Serve, postgres: Postgres
) -> None:
    api = serve(account(40))
    load(postgres, api)
    postgres.change("DELETE FROM unify.people")

    assert found(verified(postgres, api))

    with postgres.pipeline().sql_client() as client:
        stored = COMMENTS["postgres"].known(client, "unify")
    expected = {"": DIFFERENCES.description}
    expected |= {column.name: column.description for column in DIFFERENCES.columns}
    assert {column: stored[DIFFERENCES.name, column] for column in expected} == expected


def test_a_comment_is_rewritten_only_if_it_differs(serve: Serve, postgres: Postgres) -> None:
    load(postgres, serve(account(40)))
    written = "SELECT objoid, objsubid, xmin::text FROM pg_description WHERE objoid > 16383"
    first = set(postgres.ask(written))
    postgres.change("COMMENT ON COLUMN unify.people.email IS 'mine'")
    pipeline = postgres.pipeline()

    keep_described(pipeline)
    keep_described(pipeline)

    assert len(set(postgres.ask(written)) - first) == 1
    [(text,)] = postgres.ask("SELECT col_description('unify.people'::regclass, 2)")
    assert text == "The person's e-mail address."


def test_a_role_that_may_not_comment_is_warned_once_and_goes_on(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"loader_{uuid4().hex[:8]}"
    postgres.ask("CREATE SCHEMA unify; CREATE TABLE unify.people (id text)")
    postgres.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-loader'")
    postgres.ask(f"GRANT USAGE ON SCHEMA unify TO {role}; GRANT ALL ON unify.people TO {role}")
    place = urlsplit(postgres.dsn)
    login = f"{role}:of-the-loader@{place.hostname}:{place.port}"
    monkeypatch.setenv(
        "DESTINATION__POSTGRES__CREDENTIALS", urlunsplit(place._replace(netloc=login))
    )
    pipeline = Postgres.pipeline(postgres)
    try:
        with caplog.at_level(logging.WARNING, "unify_source"):
            keep_described(pipeline)
            keep_described(pipeline)
        warned = [record.getMessage() for record in caplog.records]
        assert [line for line in warned if "must be owner" in line] == warned[:1]
    finally:
        postgres.ask(f"DROP OWNED BY {role}; DROP ROLE {role}")
