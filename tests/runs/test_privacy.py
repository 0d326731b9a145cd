"""What identifies a person is hashed, left out or kept, as `pii` says, wherever a run writes."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest
import warm
from commands import command
from conftest import IS_SOAK, KEY, LANE
from destinations import Destination, DuckDB, Postgres, opened
from hostile import answering
from loaded import loaded
from personal import found_in, kept_text, personal, reshaped, stored_text
from standing import Serve, account, change, load
from warehouse import SHOWN, Rows, compared, shown

from unify_source import UnifyError, sync, unify_source
from unify_source.common.resources import BY_NAME
from unify_source.sandbox import DRIFTS, Sandbox

PII_KEY = "5f0c1e-key-of-the-hashes"
NOT_DUCKDB: tuple[type[Destination], ...] = (Postgres, *LANE)
EVERYWHERE: tuple[type[Destination], ...] = (DuckDB, *NOT_DUCKDB)


@pytest.fixture(params=[DuckDB, Postgres], ids=lambda kind: kind.name)
def database(request: pytest.FixtureRequest, home: Path) -> Iterator[Any]:
    with opened(request.param, home, request) as found:
        yield found


def hashed(text: str | None, *, is_email: bool = False) -> str | None:
    if text is None:
        return None
    text = text.strip().lower() if is_email else text
    return hmac.new(PII_KEY.encode(), text.encode(), "sha256").hexdigest()


def hidden(rows: Rows, mode: str) -> Rows:
    """Return what the tables should hold instead of these rows."""

    def value(table: str, name: str, value: Any) -> Any:
        if not BY_NAME[table].column(name).pii or mode == "keep":
            return value
        return hashed(value, is_email=name == "email") if mode == "hash" else None

    return {
        table.name: [
            tuple(value(table.name, c.name, v) for c, v in zip(compared(table), row, strict=True))
            for row in rows[table.name]
        ]
        for table in SHOWN
    }


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("warehouse", "mode"),
    [
        pytest.param(kind, mode, id=f"{kind.name}-{mode}", marks=kind.lane)
        for kind in EVERYWHERE
        for mode in ("hash", "drop")
        if kind in LANE or IS_SOAK or (mode == "drop") == (kind is DuckDB)
    ],
    indirect=["warehouse"],
)
@pytest.mark.mostly_on_duckdb
def test_only_what_is_marked_as_pii_differs_and_it_is_joined_as_before(
    mode: str, serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(100))
    for _ in range(2):
        change(api.account, 30)
        load(warehouse, api, pii=mode, pii_key=PII_KEY)
        assert warehouse.stored() == hidden(shown(api.account), mode)
    done = warehouse.loads()
    load(warehouse, api, pii=mode, pii_key=PII_KEY)
    assert len(warehouse.loads()) == len(done) + warehouse.loads_without_news


def test_one_address_has_one_hash_in_every_table(serve: Serve, warehouse: Destination) -> None:
    def shared(row: dict[str, Any]) -> dict[str, Any]:
        mailbox = {**row["mailbox"], "email": "one@acme.example"}
        return {**row, "person": {**row["person"], "email": " One@ACME.example\n"}} | {
            "mailbox": mailbox
        }

    load(warehouse, serve(account(5), reshape=shared), pii="hash", pii_key=PII_KEY)

    for table in ("people", "mailboxes"):
        emails = {email for (email,) in warehouse.reads(table, ["email"])}
        assert emails == {hashed("one@acme.example")}


# A first run that ends well, comparisons that find damage and repair it, and a run whose load fails
# halfway: the table it wants has gone bad.
SCRIPT = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from unify_source import sync, verify
from unify_source.cli.pipeline import open_pipeline
pipeline = open_pipeline("unify_gtm", sys.argv[1], "unify", pipelines_dir="working")
sync(pipeline)
if len(sys.argv) > 2:
    with pipeline.sql_client() as client:
        first = "(SELECT min(id) FROM unify.people)"
        client.execute_sql(f"DELETE FROM unify.people WHERE id = {first}")
        client.execute_sql(f"UPDATE unify.people SET last_name = 'X' WHERE id = {first}")
    for repair in (False, True):
        verify(pipeline, repair=repair)
    with pipeline.sql_client() as client:
        client.execute_sql("ALTER TABLE unify.people RENAME COLUMN email TO address")
        client.execute_sql("ALTER TABLE unify.enrollments_quarantine RENAME COLUMN raw TO before")
        client.execute_sql("DELETE FROM unify._dlt_pipeline_state")
    sync(pipeline)
"""


def ran(mode: str, api: Sandbox, database: Destination, *words: str) -> str:
    """Run that script with every log on, and return all that it wrote to its streams."""
    done = warm.run(
        ("-c", SCRIPT, database.dlt_name, *words),
        {
            **os.environ,
            "UNIFY_API_KEY": KEY,
            "RUNTIME__LOG_LEVEL": "DEBUG",
            "SOURCES__UNIFY__RETRY_BUDGET": "5",
            "SOURCES__UNIFY__BASE_URL": api.url,
            "SOURCES__UNIFY__PII": mode,
            "SOURCES__UNIFY__PII_KEY": PII_KEY,
        },
    )
    assert ("UnifyError" in done.stderr or "LoadFailed" in done.stderr) == bool(words), done.stderr
    return done.stdout + done.stderr


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("mode", "database"),
    [("keep", DuckDB), ("drop", DuckDB), ("hash", Postgres), *[("hash", DuckDB)] * IS_SOAK],
    indirect=["database"],
)
def test_no_personal_text_remains_anywhere_after_a_run_a_verify_and_a_failed_run(
    mode: str, serve: Serve, database: Any
) -> None:
    api = serve(account(25), reshape=reshaped)
    texts = personal(api.account)
    assert len(texts) > 100

    written = ran(mode, api, database, "and fail")

    packages, tables = kept_text(Path("working")), stored_text(database)
    assert ".parquet" in packages, "the failed package is there to be searched"
    rows = database.ask("SELECT count(*) FROM unify.enrollments_quarantine")
    assert rows[0][0] >= 5
    differences = database.ask("SELECT table_name, kind FROM unify.unify_verify_differences")
    assert sorted(differences) == [("people", "missing")] * 2 + [("people", "stale")] * 2
    # What is kept as it comes shows that the search would find it.
    for place in (tables, packages):
        assert (len(found_in(texts, place)) > len(texts) / 2) == (mode == "keep")
        assert mode == "keep" or not found_in(texts, place)
    assert mode == "keep" or not found_in(texts, written)
    assert PII_KEY not in tables + packages + written


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_a_verbose_command_shows_no_personal_text(mode: str, serve: Serve) -> None:
    api = serve(account(25), reshape=reshaped)
    environment = {
        "UNIFY_API_KEY": KEY,
        "RUNTIME__LOG_LEVEL": "DEBUG",
        "SOURCES__UNIFY__BASE_URL": api.url,
        "SOURCES__UNIFY__PII": mode,
        "SOURCES__UNIFY__PII_KEY": PII_KEY,
    }

    done = command("sync", "--verbose", "--pipelines-dir", "kept", **environment)

    assert done.returncode == 3
    texts = personal(api.account)
    assert not found_in(texts, done.stdout + done.stderr + kept_text(Path("kept")))


def test_errors_omit_the_servers_words_and_keep_its_codes() -> None:
    errors = [{"code": "gone", "path": ["person_id"]}]
    with answering(400, {"message": "No longer: ada@private.example", "errors": errors}) as url:
        done = command("sync", "--verbose", UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=url)
        hiding = command(
            *("sync", "--verbose"),
            UNIFY_API_KEY=KEY,
            SOURCES__UNIFY__BASE_URL=url,
            SOURCES__UNIFY__PII="drop",
        )

    assert "ada@private.example" in done.stderr
    assert "ada@private.example" not in hiding.stderr
    assert "gone at person_id" in hiding.stderr


def test_a_quarantined_row_can_still_be_found_by_its_ids(
    serve: Serve, pipeline: dlt.Pipeline, home: Path
) -> None:
    api = serve(account(300), reshape=DRIFTS["changed-types"])
    report = sync(pipeline, api_key=KEY, base_url=api.url, pii="drop")

    warehouse = DuckDB({"": str(home / "unify_gtm.duckdb")})
    rows = warehouse.ask(
        "SELECT reason, raw ->> '$.person.id', raw ->> '$.person.email'"
        " FROM unify.enrollments_quarantine"
    )
    assert len(rows) == report.quarantined > 0
    people = {row["person"]["id"] for row in api.account.rows()}
    assert {person for _, person, _ in rows} <= people
    assert {email for *_, email in rows} == {None}

    done = warehouse.loads()
    assert sync(pipeline, api_key=KEY, base_url=api.url, pii="drop").enrollments == 0
    assert warehouse.loads() == done, "what is in quarantine is written once"


def test_unknown_fields_are_personal_unless_they_are_named(
    serve: Serve, pipeline: dlt.Pipeline, home: Path
) -> None:
    def drifted(row: dict[str, Any]) -> dict[str, Any]:
        new = {"title": "Chief", "score": 7, "tags": ["a"], "home": {"city": "Bern"}}
        return {**row, "person": {**row["person"], **new}, "phase": "late"}

    api = serve(account(3), reshape=drifted)
    kept = ["people.title", "people.email", "enrollments.*"]

    sync(pipeline, api_key=KEY, base_url=api.url, pii="hash", pii_key=PII_KEY, pii_keep=kept)

    warehouse = DuckDB({"": str(home / "unify_gtm.duckdb")})
    assert set(warehouse.ask("SELECT title, score, tags, home FROM unify.people")) == {
        ("Chief", hashed("7"), hashed('["a"]'), hashed('{"city":"Bern"}'))
    }
    assert warehouse.ask("SELECT DISTINCT phase FROM unify.enrollments") == [("late",)]
    emails = {row["person"]["email"] for row in api.account.rows()}
    assert {email for (email,) in warehouse.ask("SELECT email FROM unify.people")} == emails


def run_as_source(pipeline: dlt.Pipeline, **settings: Any) -> None:
    pipeline.run(unify_source(**settings))


HASH: dict[str, Any] = {"pii": "hash", "pii_key": PII_KEY}
CHANGES: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "keep, then hash": (sync, {}, HASH, ("pii", "'hash'", "'keep'")),
    "keep, then drop": (run_as_source, {}, {"pii": "drop"}, ("pii", "'drop'", "'keep'")),
    "hash, then keep": (run_as_source, HASH, {}, ("pii", "'keep'", "'hash'")),
    "another key": (
        sync,
        {"pii": "hash", "pii_key": "2b7e-another-key"},
        HASH,
        ("pii_key", "would not match"),
    ),
    "an exception less": (
        sync,
        {"pii": "drop", "pii_keep": "people.title,people.email"},
        {"pii": "drop", "pii_keep": "people.title"},
        ("pii_keep", "people.email"),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_is_refused_before_any_request_until_everything_is_reloaded(
    name: str, serve: Serve, warehouse_file: DuckDB
) -> None:
    run, before, after, words = CHANGES[name]
    api = serve(account(20)) if before else loaded(warehouse_file, serve)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    pipeline = warehouse_file.pipeline()
    if before:
        run(pipeline, **given, **before)
    held = warehouse_file.stored()
    api.reset()

    another = warehouse_file.pipeline(name="another")
    for attempt in (pipeline, another):
        with pytest.raises(Exception) as refused:  # noqa: PT011 - dlt wraps what a resource raises
            run(attempt, **given, **after)
        assert all(word in str(refused.value) for word in (*words, "refresh='drop_data'"))
    assert api.requests == []
    assert warehouse_file.stored() == held


@pytest.mark.long
@pytest.mark.parametrize("name", ["keep, then hash", "hash, then keep"])
def test_once_everything_is_reloaded_only_the_new_setting_counts(
    name: str, serve: Serve, warehouse_file: DuckDB
) -> None:
    run, before, after, _ = CHANGES[name]
    api = serve(account(20))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    pipeline, another = warehouse_file.pipeline(), warehouse_file.pipeline(name="another")
    run(pipeline, **given, **before)

    pipeline.run(unify_source(**given, **after), refresh="drop_data")

    assert warehouse_file.stored() == hidden(shown(api.account), after.get("pii", "keep"))
    with pytest.raises(Exception, match="was loaded with"):
        run(another, **given, **({} if after else HASH))
    run(another, **given, **after)
    assert warehouse_file.stored() == hidden(shown(api.account), after.get("pii", "keep"))


@pytest.mark.long
@pytest.mark.parametrize(
    "warehouse",
    [pytest.param(kind, id=kind.name, marks=kind.lane) for kind in NOT_DUCKDB],
    indirect=True,
)
def test_the_pipeline_that_emptied_a_dataset_last_decides_how_it_is_loaded(
    serve: Serve, warehouse: Destination
) -> None:
    given: dict[str, Any] = {"api_key": KEY, "base_url": serve(account(5)).url}
    # Each extends its own copy of the schema: neither clock nor number says which is the newer.
    for name in ("one", "two"):
        warehouse.pipeline(name=name).run(unify_source(**given, **HASH))
    turns: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("one", "two", HASH, {}),
        ("two", "one", {}, HASH),
    ]
    for name, other, before, after in turns:
        run_as_source(warehouse.pipeline(name=other), **given, **before)
        warehouse.pipeline(name=name).run(unify_source(**given, **after), refresh="drop_data")
        for run in (sync, run_as_source):
            with pytest.raises(Exception, match=r"is '(hash|keep)', but [a-z_]+ was loaded with"):
                run(warehouse.pipeline(name=other), **given, **before)


@pytest.mark.long
@pytest.mark.parametrize("first", ["renamed", "one resource"])
def test_a_source_of_another_name_loads_with_the_same_settings(
    serve: Serve, warehouse_file: DuckDB, first: str
) -> None:
    given: dict[str, Any] = {"api_key": KEY, "base_url": serve(account(5)).url}
    renamed = unify_source.clone(name="unify_of_sales", section="unify_of_sales")
    source = renamed(**given) if first == "renamed" else unify_source(**given).people
    warehouse_file.pipeline().run(source)
    for run in (sync, run_as_source, lambda p, **how: p.run(renamed(**how))):
        with pytest.raises(Exception, match=r"pii.*is 'hash', but [a-z_]+ was loaded with 'keep'"):
            run(warehouse_file.pipeline(), **given, **HASH)


@pytest.mark.long
def test_a_reload_that_died_counts_as_the_new_setting(serve: Serve, warehouse_file: DuckDB) -> None:
    api = loaded(warehouse_file, serve)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    done = warehouse_file.loads()
    pipeline = warehouse_file.pipeline()
    pipeline.run(unify_source(**given, pii="drop"), refresh="drop_data")
    with pipeline.sql_client() as client:
        # As a crash leaves it: rows of the new kind, and the state of the old ones.
        client.execute_sql(f"DELETE FROM unify._dlt_loads WHERE load_id <> '{done[0]}'")
        client.execute_sql(
            f"DELETE FROM unify._dlt_pipeline_state WHERE _dlt_load_id <> '{done[0]}'"
        )

    with pytest.raises(UnifyError, match=r"'keep', but \w+ was loaded with 'drop'"):
        sync(warehouse_file.pipeline("two"), **given)


def test_a_table_without_rows_takes_any_setting(serve: Serve, warehouse_file: DuckDB) -> None:
    empty = account(0)
    given: dict[str, Any] = {"api_key": KEY, "base_url": serve(empty).url}
    run_as_source(warehouse_file.pipeline(), **given, **HASH)

    sync(warehouse_file.pipeline(name="another"), **given)


def test_no_copy_of_an_earlier_row_outlives_the_load_that_replaces_it(
    serve: Serve, database: Any
) -> None:
    api = serve(account(6), reshape=lambda row: {**row, "is_paused": "true"})
    sync(database.pipeline(), api_key=KEY, base_url=api.url)
    copies = "SELECT raw FROM unify_staging.enrollments_quarantine"
    assert len(database.ask(copies)) == 6

    mended = serve(api.account)
    source = unify_source(api_key=KEY, base_url=mended.url, pii="drop")
    database.pipeline().run(source, refresh="drop_data")

    assert database.ask(copies) == []
    assert database.stored() == hidden(shown(api.account), "drop")


def test_a_first_load_that_died_does_not_count_as_loaded(
    serve: Serve, warehouse_file: DuckDB
) -> None:
    api = serve(account(20))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "pii": "drop"}
    sync(warehouse_file.pipeline(), **given)
    with warehouse_file.pipeline().sql_client() as client:
        # As a crash leaves it: tables and rows, but no state.
        client.execute_sql("DELETE FROM unify._dlt_pipeline_state")
        client.execute_sql("DELETE FROM unify._dlt_loads")

    sync(warehouse_file.pipeline("two"), **given)

    assert warehouse_file.stored() == hidden(shown(api.account), "drop")


def test_another_exception_may_be_named_later(serve: Serve, warehouse_file: DuckDB) -> None:
    api = serve(account(20))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "pii": "drop"}
    sync(warehouse_file.pipeline(), **given, pii_keep="people.title")

    sync(warehouse_file.pipeline(), **given, pii_keep="people.title, mailboxes.*")


def test_a_selected_table_is_checked_against_its_own_last_load(
    serve: Serve, warehouse_file: DuckDB
) -> None:
    given: dict[str, Any] = {"api_key": KEY, "base_url": serve(account(20)).url}
    pipeline = warehouse_file.pipeline()
    pipeline.run(unify_source(**given).with_resources("people"))

    pipeline.run(unify_source(**given, pii="drop").with_resources("mailboxes"))
    pipeline.run(unify_source(**given).with_resources("people"))

    with pytest.raises(Exception, match="mailboxes was loaded with 'drop'"):
        pipeline.run(unify_source(**given).with_resources("mailboxes"))
    pipeline.run(unify_source(**given).with_resources("mailboxes"), refresh="drop_data")
    assert warehouse_file.ask("SELECT count(email) FROM unify.mailboxes")[0][0] > 0


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no key": ({"pii": "hash"}, ("pii is 'hash'", "token_hex", "pii_key")),
    "an empty key": ({"pii": "hash", "pii_key": " "}, ("pii_key is empty",)),
    "no such mode": ({"pii": "mask"}, ("pii is 'mask'", "keep, hash, drop")),
    "no field": ({"pii_keep": "title"}, ("pii_keep has 'title'", "TABLE.FIELD")),
    "no table": ({"pii_keep": "person.title"}, ("pii_keep names the table 'person'", "people")),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_privacy_settings_are_refused_before_any_request(
    name: str, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    settings, words = WRONG[name]
    api = serve(account(1))

    for run in (sync, run_as_source):
        with pytest.raises(UnifyError) as refused:
            run(pipeline, api_key=KEY, base_url=api.url, **settings)
        assert refused.value.exit_code == 2
        assert all(word in str(refused.value) for word in words), refused.value
    assert api.requests == []
