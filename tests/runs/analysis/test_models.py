"""The models answer alike on DuckDB and Postgres, and as a slow count in Python does."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from by_hand import ByHand, grouped, instant
from commands import command, only_json
from conftest import KEY
from destinations import Destination, opened
from modeled import KINDS, Database, Rows, filled
from pages import blocks, page
from warehouses import BigQuery, ClickHouse

from unify_source import sync, unify_source
from unify_source.common.errors import ConfigurationError, LoadFailed
from unify_source.common.resources import DESCRIBED, MARK
from unify_source.runs.analysis.models import models
from unify_source.runs.analysis.views import client_of, make_models, models_dataset
from unify_source.sandbox import DRIFTS, Account, Sandbox
from unify_source.sandbox.invent.drift import Reshape

OLDER = "page-example"
FEW_ROUNDS = 5
ROUNDS = int(os.environ.get("UNIFY_TEST_ROUNDS", FEW_ROUNDS))
TYPES = {
    "VARCHAR": "text",
    "character varying": "text",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
    "timestamp with time zone": "timestamp",
    "double precision": "double",
}


class Loaded:
    """One account, in databases with its models, and its rows as the API shows them."""

    def __init__(self, by_hand: ByHand, databases: tuple[Database, ...]) -> None:
        self.by_hand = by_hand
        self.databases = databases

    @property
    def asks(self) -> list[Callable[[str], Rows]]:
        """How to ask each of them."""
        return [database.ask for database in self.databases]

    def by_hand_of(self, query: str) -> Rows:
        """Return what a `SELECT` of columns of one model answers, by hand."""
        [(columns, model)] = re.findall(r"SELECT (.+)\sFROM unify_models\.(\w+)", query)
        names = [column.name for column in models()[model].columns]
        places = [names.index(column) for column in columns.split(", ")]
        return [tuple(row[at] for at in places) for row in self.by_hand.questions[model]()]

    def answers(self, model: str) -> list[Rows]:
        """Return what each database answers, sorted."""
        question = f"SELECT * FROM unify_models.{model}"
        return [ordered(map(tuple, ask(question))) for ask in self.asks]


def ordered(rows: Any) -> Rows:
    return sorted(rows, key=lambda row: tuple((value is not None, str(value)) for value in row))


def account(seed: int, size: int = 300) -> Account:
    """Return one that has changed, and whose two busiest sequences were upgraded, one twice."""
    changing = Account(size, seed=seed)
    changing.change(size // 5, seed=seed)
    first, second, *_ = (sequence["id"] for sequence in changing.sequences())
    newer = changing.upgrade_sequence(first)
    changing.change(20, seed=seed + 1)
    changing.upgrade_sequence(newer)
    changing.upgrade_sequence(second)
    changing.change(20, seed=seed + 2)
    changing.clock.advance(timedelta(seconds=1))
    return changing


def with_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which the API leaves some flags open, the same ones each time."""
    chance = random.Random(row["id"])
    flags = ("is_bounced", "is_opted_out", "is_replied", "is_canceled", "is_paused")
    return {**row, **{flag: None for flag in flags if chance.random() < 0.3}}


FORMS: list[Reshape] = [DRIFTS[OLDER], with_nulls] * 2 + [dict]


@contextmanager
def loaded_from(
    shown: Account, reshape: Reshape, folder: Path, server: str, *kinds: str
) -> Iterator[Loaded]:
    rows = [reshape(row) for row in shown.rows()]
    with (
        Sandbox(shown, key=KEY, reshape=reshape) as api,
        filled(folder, server, api, *kinds) as databases,
    ):
        yield Loaded(ByHand(rows, shown.sequences()), databases)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("models")
    with loaded_from(account(1), dict, folder, postgres_server, *KINDS) as each:
        yield each


@pytest.mark.rounds
@pytest.mark.parametrize("seed", range(2, 1 + ROUNDS))
def test_a_question_has_one_answer_whatever_the_seed_and_the_form_of_the_rows(
    seed: int, home: Path, postgres_server: str
) -> None:
    # Few rounds share the databases; both answer each seed in many.
    kinds = KINDS if ROUNDS > FEW_ROUNDS else KINDS[seed // 2 % 2 :][:1]
    reshape = FORMS[(seed - 2) % len(FORMS)]
    with loaded_from(account(seed, 120), reshape, home, postgres_server, *kinds) as each:
        assert_answers(each)


def test_a_question_has_one_answer_on_each_database_and_by_hand(loaded: Loaded) -> None:
    assert_answers(loaded)


def assert_answers(loaded: Loaded) -> None:
    for question, by_hand in loaded.by_hand.questions.items():
        expected = ordered(by_hand())

        assert expected, question
        for answer in loaded.answers(question):
            assert answer == expected, question


@pytest.mark.lane
@pytest.mark.parametrize("kind", [ClickHouse, BigQuery], ids=lambda kind: kind.name)
def test_a_question_has_the_same_answer_in_a_warehouse(
    kind: type[Destination], home: Path, request: pytest.FixtureRequest
) -> None:
    shown = account(1)
    with Sandbox(shown, key=KEY) as api, opened(kind, home, request) as warehouse:
        pipeline = warehouse.pipeline()
        sync(pipeline, api_key=KEY, base_url=api.url)
        make_models(pipeline)

        def answer(model: str, what: str = "") -> Rows:
            names = what or ", ".join(column.name for column in models()[model].columns)
            with client_of(pipeline, 0) as client:
                dataset = models_dataset(client.dataset_name)
                with client.with_alternative_dataset_name(dataset):
                    place = client.make_qualified_table_name(model)
                return list(map(tuple, client.execute_sql(f"SELECT {names} FROM {place}") or ()))

        for question, by_hand in ByHand(shown.rows(), shown.sequences()).questions.items():
            assert ordered(answer(question)) == ordered(by_hand()), question
        # The engine answers the tables' rows in blocks, of which its driver takes one.
        assert answer("freshness", "count(*), count(last_run_at)") == [(11, 11)]
        for model in ("quarantine_summary", "last_verify", "open_differences"):
            assert answer(model) == []


def test_the_queries_on_the_page_answer_and_sort_as_a_count_by_hand_does(loaded: Loaded) -> None:
    queries = blocks("sql", page("queries"))
    assert len(queries) == 5
    answers = [*map(loaded.by_hand_of, queries[:4]), changed_today(loaded.by_hand.rows)]
    sorting = zip((3, 3, 2, 2, 1), (1, 1, 0, 1, 1), strict=True)

    for query, expected, (sorted_by, is_falling) in zip(queries, answers, sorting, strict=True):
        for ask in loaded.asks:
            rows = list(map(tuple, ask(query)))
            assert ordered(rows) == ordered(expected) != []
            known = [row[sorted_by] for row in rows if row[sorted_by] is not None]
            assert known == sorted(known, reverse=bool(is_falling))
            assert [row[sorted_by] for row in rows[: len(known)]] == known


def changed_today(rows: list[dict[str, Any]]) -> Rows:
    """Return the answer to the last question on the page, by hand."""
    today = datetime.now(timezone.utc).date()

    def count(rows: list[dict[str, Any]], moment: Callable[[dict[str, Any]], Any]) -> int:
        return sum((at := instant(moment(row))) is not None and at.date() == today for row in rows)

    changed = [row for row in rows if count([row], itemgetter("updated_at"))]
    return [
        (
            one[0]["sequence"]["name"],
            *(len(one), count(one, itemgetter("created_at")), count(one, itemgetter("ended_at"))),
            count(one, lambda row: (row["reply_email_message"] or {}).get("received_at")),
        )
        for one in grouped(changed, lambda row: row["sequence"]["id"]).values()
    ]


def test_every_question_on_the_page_on_models_has_an_answer_on_each_database(
    loaded: Loaded,
) -> None:
    asked = set(re.findall(r"\| `SELECT \* FROM unify_models\.(\w+)`", page("models")))
    assert asked == {m.name for m in models().values() if not m.is_intermediate} - {
        "fct_enrollments"
    }

    for model in asked:
        on_duckdb, on_postgres = loaded.answers(model)
        assert len(on_duckdb) == len(on_postgres)


def without_flags(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the older form in which only `is_bounced` is known."""
    return {**DRIFTS[OLDER](row), "is_opted_out": None, "is_replied": None}


def without_any_flag(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the older form without any flag."""
    return {**without_flags(row), "is_bounced": None}


@pytest.mark.parametrize(
    ("reshape", "known", "where"),
    [
        (without_flags, {"bounce_percent"}, "delivered > 0"),
        (without_any_flag, set(), "started > 0"),
    ],
    ids=["without flags", "without any flag"],
)
def test_a_rate_that_the_api_does_not_show_is_null_and_never_0(
    pipeline: dlt.Pipeline,
    serve: Callable[..., Sandbox],
    reshape: Reshape,
    known: set[str],
    where: str,
) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(60), reshape=reshape).url)
    make_models(pipeline)
    rates = [(m.name, c.name) for m in models().values() for c in m.columns if is_rate(c.name)]
    assert {rate for _, rate in rates} >= {"human_reply_percent", "opt_out_percent", *known}

    with pipeline.sql_client() as client:
        for model, rate in rates:
            question = f"SELECT count(*), count({rate}) FROM unify_models.{model} WHERE {where}"
            [(rows, not_null)] = client.execute_sql(question) or []
            assert rows > 0
            assert not_null == (rows if rate in known else 0), (model, rate)


def is_rate(column: str) -> bool:
    return column.endswith("_percent")


@pytest.mark.long
def test_an_upgrade_creates_enrollments_but_no_people(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    account = Account(60)
    api = serve(account)
    question = "SELECT sum(sequences), sum(enrollments), sum(enrolled), sum(started)"
    answers = []
    for _ in range(2):
        account.clock.advance(timedelta(seconds=1))
        sync(pipeline, api_key=KEY, base_url=api.url)
        make_models(pipeline)
        with pipeline.sql_client() as client:
            [answer] = client.execute_sql(f"{question} FROM unify_models.sequence_lineage") or []
        answers.append(tuple(map(int, answer)))
        account.upgrade_sequence(account.sequences()[0]["id"])

    before, after = answers

    assert after[0] == before[0] + 1
    assert after[1] > before[1]
    assert after[2:] == before[2:]


def test_the_columns_of_each_model_are_those_that_it_is_described_with(loaded: Loaded) -> None:
    question = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema ="
        " 'unify_models' AND table_name = '{}' ORDER BY ordinal_position"
    )
    for model in models().values():
        expected = [(column.name, column.data_type) for column in model.columns]
        for ask in loaded.asks:
            found = ask(question.format(model.name))
            assert [(name, TYPES.get(kind, kind.lower())) for name, kind in found] == expected


COMMENTS = {
    "duckdb": (
        "SELECT table_name, '', comment FROM duckdb_tables() WHERE schema_name = '{0}' UNION ALL"
        " SELECT view_name, '', comment FROM duckdb_views() WHERE schema_name = '{0}' UNION ALL"
        " SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = '{0}'"
    ),
    "postgres": (
        "SELECT table_name, '', obj_description(format('{0}.%I', table_name)::regclass)"
        " FROM information_schema.tables WHERE table_schema = '{0}' UNION ALL"
        " SELECT table_name, column_name,"
        " col_description(format('{0}.%I', table_name)::regclass, ordinal_position)"
        " FROM information_schema.columns WHERE table_schema = '{0}'"
    ),
}


@pytest.mark.parametrize(
    ("schema", "facts"),
    [("unify", {table.name: table for table in DESCRIBED}), ("unify_models", models())],
    ids=["tables", "models"],
)
def test_every_table_model_and_column_has_a_comment_in_the_warehouse(
    loaded: Loaded, schema: str, facts: dict[str, Any]
) -> None:
    expected = {
        (one.name, getattr(column, "name", "")): (column or one).description
        for one in facts.values()
        for column in (None, *one.columns)
    }
    # The tables that have a column of the merge's own.
    marked = [table for table in DESCRIBED if table.is_marked]
    expected |= {(one.name, MARK.name): MARK.description for one in marked if one.name in facts}

    for database in loaded.databases:
        rows = database.ask(COMMENTS[database.kind].format(schema))
        stored = {(table, column): text for table, column, text in rows}
        assert {place: text for place, text in stored.items() if text} == expected
        assert not [place for place, text in stored.items() if place[0] in facts and not text]


def test_freshness_counts_the_rows_of_every_table(loaded: Loaded) -> None:
    for ask in loaded.asks:
        rows = {name: count for name, count, *_ in ask("SELECT * FROM unify_models.freshness")}
        assert rows == {name: ask(f"SELECT count(*) FROM unify.{name}")[0][0] for name in rows}
        assert rows["enrollments"] == len(loaded.by_hand.rows)
        assert ask("SELECT count(*) FROM unify_models.freshness WHERE last_loaded_at IS NULL") == [
            (0,)
        ]


def test_a_view_that_cannot_be_replaced_is_named_and_the_others_stay(
    loaded: Loaded, home: Path
) -> None:
    # Postgres replaces a view only by one that has the same columns, and perhaps more.
    database = loaded.databases[1]
    database.ask("DROP VIEW unify_models.freshness")
    database.ask("CREATE VIEW unify_models.freshness AS SELECT 1 AS other")

    with pytest.raises(LoadFailed, match="The view freshness could not be created") as failed:
        make_models(database.pipeline(home))

    assert "drop that schema" in failed.value.next_step
    assert database.ask("SELECT * FROM unify_models.freshness") == [(1,)]
    database.ask("DROP SCHEMA unify_models CASCADE")
    make_models(database.pipeline(home))


def test_a_view_outlives_a_new_name_of_its_file(loaded: Loaded, home: Path) -> None:
    copy = shutil.copy(loaded.databases[0].credentials, home / "kept.duckdb")

    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{copy}' AS elsewhere (READ_ONLY)")
        question = "SELECT sum(enrolled) FROM elsewhere.unify_models.sequence_funnel"
        assert connection.execute(question).fetchall() == [(len(loaded.by_hand.rows),)]


def test_the_command_creates_the_views_reports_them_and_can_be_repeated(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    sync(pipeline, api_key=KEY, base_url=serve(Account(20)).url)

    first, second = command("models", "--json"), command("models")

    assert first.returncode == second.returncode == 0, first.stderr
    assert only_json(first)["dataset"] == "unify_models"
    assert only_json(first)["models"] == [*models()]
    assert f"{len(models())} views created in duckdb, dataset unify_models." in second.stdout
    shown = [model for model in models().values() if not model.is_intermediate]
    assert all(model.description in second.stdout for model in shown)


def test_without_loaded_tables_the_command_reports_that_and_creates_nothing(home: Path) -> None:
    ran = command("models")

    assert ran.returncode == 2
    assert "There is no dataset unify in duckdb." in ran.stderr
    assert "unify-source sync" in ran.stderr
    assert not (home / "unify_gtm.duckdb").exists()


def test_a_missing_table_is_named_and_no_view_is_created(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox]
) -> None:
    api = serve(Account(20))
    pipeline.run(unify_source(api_key=KEY, base_url=api.url).with_resources("people"))

    with pytest.raises(ConfigurationError, match="lacks a table that the model int_enrollments"):
        make_models(pipeline)

    with pipeline.sql_client() as client:
        assert client.execute_sql("SELECT count(*) FROM duckdb_views() WHERE NOT internal") == [
            (0,)
        ]


def test_files_have_no_views_and_the_command_reports_that(home: Path) -> None:
    ran = command(
        "models",
        "--destination",
        "filesystem",
        DESTINATION__FILESYSTEM__BUCKET_URL=str(home / "lake"),
    )

    assert ran.returncode == 2
    assert "filesystem has no SQL of its own" in ran.stderr
