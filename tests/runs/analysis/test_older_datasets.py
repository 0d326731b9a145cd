"""The models of a dataset that lacks tables which newer versions create."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import KEY
from modeled import Database, both, role_of

from unify_source import export, make_models, sync, verify
from unify_source.common.resources import DIFFERENCES, LEDGER, QUARANTINE
from unify_source.sandbox import Account, Sandbox

NEWER = (QUARANTINE, LEDGER, DIFFERENCES)


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    account = Account(30)
    with Sandbox(account, key=KEY) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def databases(
    api: Sandbox, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[tuple[Database, Database]]:
    with both(tmp_path_factory.mktemp("older"), postgres_server, api) as loaded:
        yield loaded


@pytest.fixture(params=[0, 1], ids=["duckdb", "postgres"])
def older(databases: tuple[Database, Database], request: pytest.FixtureRequest) -> Database:
    """Yield a dataset in the state that an older version leaves."""
    database = databases[request.param]
    database.ask("DROP SCHEMA unify_models CASCADE")
    for table in NEWER:
        database.ask(f"DROP TABLE IF EXISTS unify.{table.name}")
    return database


@pytest.mark.long
def test_tables_that_an_older_dataset_lacks_are_created_with_the_models(
    older: Database, home: Path, api: Sandbox
) -> None:
    pipeline = older.pipeline(home)
    make_models(pipeline)

    assert older.ask("SELECT last_run_at FROM unify_models.freshness LIMIT 1") == [(None,)]
    for model in ("quarantine_summary", "last_verify", "open_differences"):
        assert older.ask(f"SELECT * FROM unify_models.{model}") == []

    # The views read the tables, though these were created for them.
    sync(pipeline, api_key=KEY, base_url=api.url)
    older.ask("DELETE FROM unify.people RETURNING id")
    verify(pipeline, api_key=KEY, base_url=api.url)
    assert older.ask("SELECT last_run_at FROM unify_models.freshness LIMIT 1") != [(None,)]
    assert older.ask("SELECT verdict FROM unify_models.last_verify") == [("different",)]
    [found] = older.ask("SELECT table_name, kind, row_count FROM unify_models.open_differences")
    assert found[:2] == ("people", "missing")
    assert export(pipeline, DIFFERENCES.name, home / "differences.csv").rows == found[2]
    assert [found[2:]] == older.ask("SELECT differences FROM unify_models.last_verify")


def test_a_role_that_may_only_read_the_tables_makes_the_models_without_them(
    databases: tuple[Database, Database], home: Path
) -> None:
    database = databases[1]
    database.ask("DROP SCHEMA IF EXISTS unify_models CASCADE")
    for table in NEWER:
        database.ask(f"DROP TABLE IF EXISTS unify.{table.name}")
    role = f"analyst_{uuid4().hex[:12]}"
    with role_of(database, role) as analyst:
        [(name,)] = database.ask("SELECT current_database()")
        database.ask(f"GRANT CREATE ON DATABASE {name} TO {role}")
        database.ask(f"GRANT USAGE ON SCHEMA unify TO {role}")
        database.ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA unify TO {role}")

        make_models(analyst.pipeline(home))

        assert analyst.ask("SELECT * FROM unify_models.open_differences") == []
        assert analyst.ask("SELECT count(*) FROM unify_models.fct_enrollments") == [(30,)]


def test_a_run_without_changes_makes_the_data_current_and_loads_nothing(
    databases: tuple[Database, Database], home: Path, api: Sandbox
) -> None:
    question = (
        "SELECT last_loaded_at, last_run_at, data_current_to FROM unify_models.freshness"
        " WHERE table_name = 'enrollments'"
    )
    database = databases[0]
    pipeline = database.pipeline(home)
    make_models(pipeline)
    sync(pipeline, api_key=KEY, base_url=api.url)
    [(loaded, ran, current)] = database.ask(question)
    api.account.clock.advance(timedelta(minutes=5))

    sync(pipeline, api_key=KEY, base_url=api.url)

    [(loaded_then, ran_then, current_then)] = database.ask(question)
    assert loaded_then == loaded
    assert ran_then > ran
    assert current_then >= current + timedelta(minutes=5)
