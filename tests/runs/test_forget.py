"""A person who is forgotten is in no table, and no later run brings the person back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import dlt
import duckdb
import pyarrow.parquet as pq
import pytest
from commands import command, only_json
from conftest import KEY, LANE, start_and_kill
from destinations import Destination, DuckDB, Postgres, opened
from lakes import Delta, DeltaOnS3, Parquet
from loaded import loaded
from personal import stored_text
from standing import Serve, account
from warehouse import Rows, shown

from unify_source import backfill, forget, sync, unify_source
from unify_source.common.errors import LockHeld, NotPermitted
from unify_source.common.resources import BY_NAME
from unify_source.destinations.locks.turns import Turns
from unify_source.sandbox import Account, Sandbox

Row = dict[str, Any]


@pytest.fixture(params=[DuckDB, Postgres], ids=lambda kind: kind.name)
def database(request: pytest.FixtureRequest, home: Path) -> Iterator[Any]:
    with opened(request.param, home, request) as found:
        yield found


def settings(api: Sandbox, **more: Any) -> dict[str, Any]:
    return {"api_key": KEY, "base_url": api.url, **more}


def busiest(account: Account) -> str:
    """Return a person with several enrollments, of which one has a reply."""
    enrolled: dict[str, list[Row]] = {}
    for row in account.rows():
        enrolled.setdefault(row["person"]["id"], []).append(row)
    replied = [p for p, rows in enrolled.items() if any(r["reply_email_message"] for r in rows)]
    return max(replied, key=lambda person: len(enrolled[person]))


def others(account: Account, person: str) -> list[Row]:
    return [row for row in account.rows() if row["person"]["id"] != person]


def owned(tables: Rows) -> Rows:
    """Return the tables whose rows belong to a person."""
    names = ("people", "enrollments", "reply_email_messages", "reply_classifications")
    return {name: tables[name] for name in names}


def touched(account: Account, person: str) -> None:
    """Let every enrollment of a person change, a second later."""
    account.clock.advance(timedelta(seconds=1))
    now = account.clock.now().isoformat()
    theirs = [row for row in account.rows() if row["person"]["id"] == person]
    account.put_many([{**row, "is_paused": True, "updated_at": now} for row in theirs])
    account.clock.advance(timedelta(seconds=1))


def by_sync(pipeline: dlt.Pipeline, api: Sandbox) -> None:
    sync(pipeline, **settings(api))


def by_backfill(pipeline: dlt.Pipeline, api: Sandbox) -> None:
    backfill(pipeline, "2000-01-01", **settings(api))


def by_source(pipeline: dlt.Pipeline, api: Sandbox) -> None:
    pipeline.run(unify_source(**settings(api)))


def by_refresh(pipeline: dlt.Pipeline, api: Sandbox) -> None:
    pipeline.run(unify_source(**settings(api)), refresh="drop_data")


def test_a_person_leaves_every_table_and_no_kind_of_run_brings_them_back(
    serve: Serve, database: Any
) -> None:
    api = loaded(database, serve)
    person = busiest(api.account)
    before = {name: len(rows) for name, rows in database.stored().items()}
    email = next(r["person"]["email"] for r in api.account.rows() if r["person"]["id"] == person)
    assert email in stored_text(database)

    removed = forget(database.pipeline(), person_id=person).rows

    left = shown(others(api.account, person), api.account.sequences())
    stored = database.stored()
    assert owned(stored) == owned(left)
    assert removed["people"] == 1
    assert removed["enrollments"] > 1
    assert removed["reply_email_messages"] >= 1
    assert {name: before[name] - len(rows) for name, rows in stored.items()} == {
        name: removed[name] for name in before
    }

    again = [(run, "unify_gtm") for run in (by_sync, by_refresh, by_backfill, by_source)]
    again = [(by_sync, "another"), *again]
    for run, name in again[:3] if isinstance(database, Postgres) else again:
        touched(api.account, person)
        run(database.pipeline(machine=run.__name__, name=name), api)
        assert owned(database.stored()) == owned(left), (run.__name__, name)
    rows = database.ask("SELECT hash_key || digest FROM unify._unify_forgotten")
    assert len(rows) == 1
    assert person not in str(rows)


@pytest.mark.parametrize(
    "warehouse", [pytest.param(k, id=k.name, marks=k.lane) for k in LANE], indirect=True
)
def test_a_person_leaves_every_table_of_a_lake_or_a_warehouse_for_good(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(300))
    by_sync(warehouse.pipeline(), api)
    person = busiest(api.account)
    # As if an older version of the person were stored, too.
    touched(api.account, person)
    by_sync(warehouse.pipeline(), api)

    done = forget(warehouse.pipeline(), person)

    left = shown(others(api.account, person), api.account.sequences())
    stored = warehouse.stored()
    assert owned(stored) == owned(left)
    assert done.rows["people"] == 1
    assert done.rows["enrollments"] > 1
    assert done.rows["reply_email_messages"] >= 1
    assert bool(done.notices) == (warehouse.name not in (Delta.name, DeltaOnS3.name, Parquet.name))
    if warehouse.name in (Delta.name, Parquet.name):
        files = Path(warehouse.environment["DESTINATION__FILESYSTEM__BUCKET_URL"])
        texts = [str(pq.read_table(file).to_pylist()) for file in files.rglob("*.parquet")]
        assert not [text for text in texts if person in text]
        # As a power failure leaves files that were just written.
        (hashed,) = files.parent.rglob("unify_forgotten/*.json")
        hashed.write_text("")

    for run, name in ((by_backfill, "unify_gtm"), (by_sync, "another"), (by_source, "unify_gtm")):
        touched(api.account, person)
        run(warehouse.pipeline(machine=run.__name__, name=name), api)
        assert owned(warehouse.stored()) == owned(left), (run.__name__, name)
    assert sum(forget(warehouse.pipeline("again"), person).rows.values()) == 0


@pytest.mark.parametrize(
    "warehouse", [pytest.param(Delta, id=Delta.name, marks=Delta.lane)], indirect=True
)
def test_a_second_try_deletes_what_one_that_was_killed_has_left(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(100))
    by_sync(warehouse.pipeline(), api)
    person = busiest(api.account)
    left = shown(others(api.account, person), api.account.sequences())
    erasing = "unify_source.destinations.lakes.tables DeltaRows.erase"
    for table in range(1, 10, 3):
        words = ("--person", person, "--destination", "filesystem", "--lock-timeout", "600")
        start_and_kill(api, "forget", *words, at=erasing, times=table)

    # Nothing that was deleted by then comes back.
    before = {name: len(rows) for name, rows in warehouse.stored().items()}
    touched(api.account, person)
    by_sync(warehouse.pipeline(), api)
    assert {name: len(rows) for name, rows in warehouse.stored().items()} == before

    forget(warehouse.pipeline(), person)

    stored = warehouse.stored()
    assert owned(stored) == owned(left)


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_a_role_that_may_not_read_who_was_forgotten_brings_nobody_back(
    serve: Serve, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = loaded(database, serve)
    person = busiest(api.account)
    forget(database.pipeline(), person)
    touched(api.account, person)
    role, parts = f"loader_{uuid4().hex[:8]}", urlsplit(database.dsn)
    database.change(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-loader'")
    try:
        for schema in ("unify", "unify_staging"):
            database.change(f"GRANT ALL ON SCHEMA {schema} TO {role}")
            database.change(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        database.change(f"REVOKE ALL ON unify._unify_forgotten FROM {role}")
        place = f"{role}:of-the-loader@{parts.hostname}:{parts.port}"
        dsn = urlunsplit(parts._replace(netloc=place))
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", dsn)

        with pytest.raises(NotPermitted, match="_unify_forgotten"):
            sync(database.pipeline(machine="another"), **settings(api))
    finally:
        database.change(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    assert person not in database.keys("people")


@pytest.mark.parametrize("database", [Postgres], indirect=True)
def test_a_person_is_forgotten_in_a_dataset_whose_name_the_database_folds(
    serve: Serve, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__ENABLE_DATASET_NAME_NORMALIZATION", "false")
    api = serve(account(50))
    person = busiest(api.account)
    pipeline = dlt.pipeline("unify_gtm", destination="postgres", dataset_name="Unify")
    by_sync(pipeline, api)

    # The name in pg_catalog, where the missing indexes are looked up as well.
    [(count,)] = database.ask("SELECT count(*) FROM pg_indexes WHERE schemaname = 'unify'")
    assert count > len(BY_NAME)

    assert forget(pipeline, person).rows["people"] == 1

    touched(api.account, person)
    by_sync(pipeline, api)
    assert person not in database.keys("people")


@pytest.mark.parametrize("database", [DuckDB], indirect=True)
def test_only_the_pipelines_own_database_tells_who_was_forgotten(
    serve: Serve, database: Any, home: Path
) -> None:
    api = loaded(database, serve)
    person = busiest(api.account)
    forget(database.pipeline(), person)
    own = duckdb.connect()
    pipeline = dlt.pipeline("own", destination=dlt.destinations.duckdb(own), dataset_name="unify")
    by_sync(pipeline, api)
    # As every database of an account at MotherDuck is attached.
    own.execute(f"ATTACH '{home / 'unify_gtm.duckdb'}' AS other")

    touched(api.account, person)
    by_sync(pipeline, api)
    assert forget(pipeline, person).rows["people"] == 1


def test_no_copy_of_a_person_stays_in_the_tables_that_a_merge_leaves(
    serve: Serve, database: Any
) -> None:
    api = loaded(database, serve)
    person = busiest(api.account)
    tables = database.ask(
        "SELECT table_schema, table_name FROM information_schema.tables"
        " WHERE table_schema = 'unify_staging' AND table_name IN ('people', 'enrollments')"
    )
    assert len(tables) == 2

    forget(database.pipeline(), person)

    for schema, table in [*tables, ("unify", "people"), ("unify", "enrollments")]:
        assert person not in str(database.ask(f"SELECT * FROM {schema}.{table}"))


@pytest.mark.long
def test_a_quarantined_row_that_names_a_forgotten_person_is_deleted_and_not_requested_again(
    serve: Serve, database: Any
) -> None:
    def broken(row: Row) -> Row:
        return {**row, "is_paused": "true"}

    api = serve(account(12), reshape=broken)
    person = busiest(api.account)
    theirs = {row["id"] for row in api.account.rows() if row["person"]["id"] == person}
    sync(database.pipeline(), **settings(api))

    removed = forget(database.pipeline(), person).rows

    assert removed["enrollments_quarantine"] == len(theirs)
    sync(database.pipeline(), **settings(api))
    api.reset()
    report = sync(database.pipeline(), **settings(api))
    assert report.quarantined == 12 - len(theirs)
    assert theirs.isdisjoint(database.keys("enrollments_quarantine"))
    assert not [r for r in api.requests if r.path.rpartition("/")[2] in theirs]


def test_differences_that_name_a_forgotten_person_are_deleted_too(
    serve: Serve, database: Any
) -> None:
    api = loaded(database, serve)
    person = busiest(api.account)
    with database.pipeline().sql_client() as client:
        client.execute_sql("CREATE TABLE unify.unify_verify_differences (kind TEXT, key TEXT)")
        keys = "SELECT id FROM unify.people UNION ALL SELECT id FROM unify.enrollments"
        client.execute_sql(
            f"INSERT INTO unify.unify_verify_differences SELECT 'stale', id FROM ({keys}) AS keys"
        )

    removed = forget(database.pipeline(), person).rows

    assert removed["unify_verify_differences"] == removed["enrollments"] + 1
    left = {key for (key,) in database.ask("SELECT key FROM unify.unify_verify_differences")}
    assert left == {*database.keys("people"), *database.keys("enrollments")}


@pytest.mark.long
@pytest.mark.parametrize(
    ("pii", "database"), [("keep", DuckDB), ("hash", Postgres)], indirect=["database"]
)
def test_forgotten_people_stay_forgotten_whatever_the_settings(
    pii: str, serve: Serve, database: Any
) -> None:
    api = serve(account(60))
    people = sorted({row["person"]["id"] for row in api.account.rows()})[:3]
    given = settings(api, pii=pii, pii_key="9c1b-a-key-of-hashes")
    sync(database.pipeline(), **given)

    for person in [*people, people[0].upper()]:
        forget(database.pipeline(), person)
    changed = {**given, "pii": "drop", "pii_key": None}
    database.pipeline().run(unify_source(**changed), refresh="drop_data")

    assert set(database.keys("people")).isdisjoint(people)
    assert len(database.ask("SELECT * FROM unify._unify_forgotten")) == len(people)


def test_the_command_reports_what_it_removed_and_needs_no_key(serve: Serve) -> None:
    api = serve(account(60))
    person = busiest(api.account)
    assert command("sync", UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=api.url).returncode == 0

    done = command("forget", "--person", person, "--json")
    again = command("forget", "--person", person)

    assert done.returncode == again.returncode == 0
    removed = only_json(done)["removed"]
    assert removed["people"] == 1
    assert removed["enrollments"] > 1
    assert "duckdb, dataset unify has no row of this person." in again.stdout
    assert "No later run loads this person again." in again.stdout


REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no id": (["--person", "ada@example.com"], ("--person", "not an id")),
    "no dataset": (["--person", "3c90c3cc-0d44-4b50-8888-8dd25736052a"], ("no dataset unify",)),
    "no lake": (
        ["--person", "3c90c3cc-0d44-4b50-8888-8dd25736052a", "--destination", "filesystem"],
        ("no dataset unify in filesystem",),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_impossible_forget_is_refused_and_leaves_no_file(name: str, home: Path) -> None:
    words, sentences = REFUSED[name]
    done = command(
        "forget", *words, "--json", DESTINATION__FILESYSTEM__BUCKET_URL=str(home / "lake")
    )

    assert done.returncode == 2
    assert all(sentence in done.stderr for sentence in sentences), done.stderr
    assert json.loads(done.stdout)["exit_code"] == 2
    assert not list(home.rglob("*.duckdb"))


def test_nothing_is_deleted_beside_another_run(serve: Serve, database: Any) -> None:
    api = loaded(database, serve)

    with (
        Turns(database.pipeline(), 0).turn(),
        pytest.raises(LockHeld) as refused,
    ):
        forget(database.pipeline(machine="two"), busiest(api.account), lock_timeout=0)

    assert refused.value.exit_code == 5
    assert len(database.keys("enrollments")) == 300
