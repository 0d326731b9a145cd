"""`check` and `status` leave nothing behind, and say soon what a sync would run into."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import dlt
import postgres
import pytest
from commands import command, only_json
from conftest import KEY
from destinations import Postgres
from dlt.pipeline.exceptions import PipelineStepFailed
from hostile import DAMAGED
from loaded import loaded
from standing import START, account, load
from warehouse import shown

from unify_source import backfill, sync, unify_source, verify
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError, LoadFailed
from unify_source.runs.check import check
from unify_source.runs.status import status
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

Run = Callable[[dlt.Pipeline], object]

FILE = "unify_gtm.duckdb"
CREDENTIALS = "DESTINATION__POSTGRES__CREDENTIALS"


def by_backfill(pipeline: dlt.Pipeline) -> None:
    backfill(pipeline, "2000-01-01")


def by_three_lines(pipeline: dlt.Pipeline) -> None:
    pipeline.run(unify_source())


RUNS: tuple[Run, ...] = (check, sync, by_backfill, verify)


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    sandbox = serve(Account(50))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return sandbox


@pytest.fixture
def warehouse_dsn(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with postgres.database(postgres_server) as dsn:
        monkeypatch.setenv(CREDENTIALS, dsn)
        yield dsn


def listing(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*"))}


def schemas(dsn: str) -> list[str]:
    rows = postgres.ask(
        dsn,
        "SELECT schema_name || ' ' || coalesce(table_name, '') FROM information_schema.schemata"
        " LEFT JOIN information_schema.tables ON table_schema = schema_name"
        " WHERE schema_name !~ '^(pg_|information_schema)' ORDER BY 1",
    )
    return [name for (name,) in rows]


@pytest.mark.parametrize(
    "words", [["check"], ["status"], ["status", "--destination", "filesystem"]]
)
def test_before_the_first_load_nothing_is_created(
    words: list[str], api: Sandbox, home: Path
) -> None:
    before = listing(home)

    ran = command(*words, DESTINATION__FILESYSTEM__BUCKET_URL=(home / "lake").as_uri())

    assert (ran.returncode, ran.stderr) == (0, "")
    assert listing(home) == before
    assert len(api.requests) == (words[0] == "check")


@pytest.mark.parametrize("run", [check, status])
def test_after_a_load_check_and_status_change_nothing(
    run: Callable[[dlt.Pipeline], object], api: Sandbox, home: Path, pipeline: dlt.Pipeline
) -> None:
    sync(pipeline)
    before = listing(home)

    run(pipeline)

    assert listing(home) == before
    assert api.requests


def test_status_leaves_pending_packages_alone(api: Sandbox, pipeline: dlt.Pipeline) -> None:
    sync(pipeline)
    pipeline.extract([{"id": 1}], table_name="mine", schema=dlt.Schema("mine"))
    waiting = pipeline.list_extracted_load_packages()
    assert waiting

    assert status(pipeline).rows["enrollments"] == len(api.account)

    assert pipeline.list_extracted_load_packages() == waiting


@pytest.mark.usefixtures("api")
def test_in_postgres_neither_creates_a_schema_nor_leaves_a_table(warehouse_dsn: str) -> None:
    before = schemas(warehouse_dsn)
    for words in (["check"], ["status"]):
        ran = command(*words, "--destination", "postgres")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert schemas(warehouse_dsn) == before

    assert command("sync", "--destination", "postgres").returncode == 0
    loaded = schemas(warehouse_dsn)
    for words in (["check"], ["status"]):
        assert command(*words, "--destination", "postgres").returncode == 0
        assert schemas(warehouse_dsn) == loaded


def reached_as(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    netloc = f"{role}:of-{role}@{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=netloc))


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("dataset_exists", [False, True])
def test_check_reports_a_role_that_may_not_write(
    warehouse_dsn: str, *, dataset_exists: bool
) -> None:
    role = f"reader_{os.getpid()}_{dataset_exists}".lower()
    postgres.ask(warehouse_dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'of-{role}'")
    if dataset_exists:
        postgres.ask(warehouse_dsn, f"CREATE SCHEMA unify; GRANT USAGE ON SCHEMA unify TO {role}")
        postgres.ask(warehouse_dsn, "CREATE TABLE unify._dlt_version (id int)")

    ran = command(
        "check", "--destination", "postgres", **{CREDENTIALS: reached_as(warehouse_dsn, role)}
    )

    assert ran.returncode == 2
    assert "The key is valid" in ran.stdout
    assert "postgres cannot be written, dataset unify: permission denied" in ran.stderr
    assert f"of-{role}" not in ran.stderr


def test_a_role_that_owns_both_datasets_needs_no_right_to_create_one(
    warehouse_dsn: str, api: Sandbox
) -> None:
    role = f"owner_{os.getpid()}"
    postgres.ask(warehouse_dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'of-{role}'")
    postgres.ask(warehouse_dsn, f"CREATE SCHEMA unify AUTHORIZATION {role}")
    url = reached_as(warehouse_dsn, role)
    pipeline = open_pipeline("unify_gtm", "postgres", "unify", credentials=url)

    # A merge begins in the staging dataset.
    with pytest.raises(ConfigurationError, match="permission denied for database"):
        check(pipeline)
    postgres.ask(warehouse_dsn, f"CREATE SCHEMA unify_staging AUTHORIZATION {role}")

    assert check(pipeline).dataset == "unify"
    assert sync(pipeline).enrollments == len(api.account)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
@pytest.mark.usefixtures("api")
def test_check_reports_a_folder_that_may_not_be_written(home: Path) -> None:
    home.chmod(0o500)
    try:
        ran = command("check")
    finally:
        home.chmod(0o700)

    assert ran.returncode == 2
    assert "Permission denied" in ran.stderr


@pytest.mark.usefixtures("api")
def test_check_reports_a_damaged_database_after_the_checks_that_passed(
    home: Path,
) -> None:
    (home / FILE).write_bytes(DAMAGED)

    ran = command("check")

    assert ran.returncode == 2
    assert ran.stdout.startswith("The key is valid")
    assert "duckdb cannot be written, dataset unify: " in ran.stderr
    result = only_json(command("check", "--json"))
    assert result["exit_code"] == 2


def closed() -> str:
    # Bound, so that nobody else gets the port, but not listening.
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    KEPT_OPEN.append(taken)
    return f"http://127.0.0.1:{taken.getsockname()[1]}"


def silent() -> str:
    server = socket.create_server(("127.0.0.1", 0))
    KEPT_OPEN.append(server)
    return f"http://127.0.0.1:{server.getsockname()[1]}"


KEPT_OPEN: list[socket.socket] = []
NOBODY = {
    "refused": closed,
    "name": lambda: "https://nobody.invalid",
    "deadline": silent,
}


@pytest.mark.parametrize("kind", NOBODY)
def test_check_reports_an_unreachable_api_within_seconds(kind: str) -> None:
    url = NOBODY[kind]()
    began = time.monotonic()

    ran = command("check", UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=url)

    # A sync would try for fifteen minutes.
    assert time.monotonic() - began < 60
    assert ran.returncode == 1
    assert url in ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--pipeline-name", "a/b"],
        ["--pipeline-name", ""],
        ["--pipeline-name", ".."],
        ["--pipeline-name", "a b"],
        ["--pipeline-name", "unify-gtm"],
        ["--pipeline-name", "x" * 65],
        ["--pipeline-name", "x" * 300],
        ["--pipeline-name", "né\0e"[:2]],
        ["--dataset", ""],
        ["--dataset", "a/b"],
        ["--destination", ""],
        ["--destination", "nowhere"],
        ["--destination", "os.path"],
    ],
)
@pytest.mark.usefixtures("api")
def test_odd_names_end_with_a_sentence(words: list[str], home: Path) -> None:
    for name in ("check", "status"):
        ran = command(name, *words)
        assert "Traceback" not in ran.stderr
        assert ran.returncode in (0, 2)
    assert list(home.glob("*.duckdb")) == []


@pytest.mark.parametrize(
    "address", ["", "nonsense", "postgresql://", "postgresql://u:pw-never@", "mysql://u:pw-never@h"]
)
@pytest.mark.usefixtures("api")
def test_a_malformed_address_ends_with_a_sentence(address: str) -> None:
    for name in ("check", "status"):
        ran = command(name, "--destination", "postgres", **{CREDENTIALS: address})
        assert ran.returncode in (1, 2)
        assert ran.stderr.startswith("Error: ")
        assert "Traceback" not in ran.stderr
        assert "pw-never" not in ran.stderr


def failed(run: Run, pipeline: dlt.Pipeline, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        run(pipeline)


ADDRESSES = {
    "clickhouse": "clickhouse://u:p@127.0.0.1/d",
    "mssql": "mssql://u:p@127.0.0.1/d",
    "postgres": "postgresql://u:p@127.0.0.1/d",
    "redshift": "redshift://u:p@127.0.0.1/d",
    "snowflake": "snowflake://u:p@host/d",
    "synapse": "synapse://u:p@127.0.0.1/d",
}
DRIVERS = ("clickhouse_connect", "clickhouse_driver", "psycopg2", "pyodbc", "snowflake")


@pytest.mark.parametrize("destination", ADDRESSES)
def test_a_missing_driver_is_reported_with_the_extra_that_installs_it(
    destination: str, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *DRIVERS)
    pipeline = open_pipeline("mine", destination, "unify", credentials=ADDRESSES[destination])
    extra = "dlt[mssql]" if destination == "mssql" else f"unify-source[{destination}]"

    for run in RUNS:
        failed(run, pipeline, re.escape(f"pip install '{extra}'"))

    # The first of them is `check`, which asks the server for its time.
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("table_format", "library"),
    [
        ("delta", "deltalake"),
        ("iceberg", "pyiceberg"),
        # pip installs pyiceberg without it.
        pytest.param("iceberg", "sqlalchemy", marks=pytest.mark.lane),
    ],
)
def test_a_missing_library_for_a_lake_is_named_before_any_request(
    table_format: str,
    library: str,
    api: Sandbox,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, library, "pyiceberg.catalog.sql")
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", (home / "lake").as_uri())
    monkeypatch.setenv("SOURCES__UNIFY__TABLE_FORMAT", table_format)
    pipeline = open_pipeline("mine", "filesystem", "unify", pipelines_dir=str(home / "dlt"))
    extra = re.escape(f"{library} is not installed. Install it: pip install 'unify-source")

    for run in (*RUNS, by_three_lines):
        failed(run, pipeline, rf"^table_format is '{table_format}'.*{extra}\[{table_format}\]'")

    assert api.requests == []
    assert not (home / "lake").exists()
    monkeypatch.setenv("SOURCES__UNIFY__TABLE_FORMAT", "parquet")
    assert check(pipeline).dataset == "unify"
    assert not (home / "lake").exists()


@pytest.mark.long
@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("first", ["unify", "unify_staging"])
def test_no_dataset_becomes_the_staging_dataset_of_another(first: str, home: Path) -> None:
    def opened_as(dataset: str) -> dlt.Pipeline:
        folder = str(home / "dlt")
        return open_pipeline(
            dataset, "duckdb", dataset, credentials=str(home / "a.duckdb"), pipelines_dir=folder
        )

    sync(opened_as(first))
    second = opened_as("unify" if first == "unify_staging" else "unify_staging")
    harm = "each load of 'unify' would empty the tables of 'unify_staging'"
    for run in (check, sync, by_backfill):
        failed(run, second, harm)
    with pytest.raises(PipelineStepFailed, match=harm):
        by_three_lines(second)

    assert sync(opened_as(first)).rows_by_table == {}


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Let imports of libraries fail as if they were not installed."""
    for library in libraries:
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{library}.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)
    for name in [name for name in sys.modules if name.startswith(OF_DLT)]:
        monkeypatch.delitem(sys.modules, name)


OF_DLT = ("dlt.destinations.impl.", "dlt.common.libs.deltalake", "dlt.common.libs.pyiceberg")


@pytest.mark.parametrize(
    ("destination", "names"),
    [
        ("duckdb", ["information_schema", "pg_catalog", "system", "Temp"]),
        ("postgres", ["information_schema", "PG_catalog", "pg_toast", "pg_mine"]),
    ],
)
def test_a_dataset_with_a_name_of_the_database_is_refused_before_any_request(
    destination: str,
    names: list[str],
    api: Sandbox,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CREDENTIALS, "postgresql://u:p@127.0.0.1:1/d")
    for name in names:
        pipeline = open_pipeline("mine", destination, name, pipelines_dir=str(home / "dlt"))
        for run in (*RUNS, by_three_lines):
            failed(run, pipeline, f"^dataset is '{name}', a name that {destination} keeps")

    assert api.requests == []
    assert list(home.glob("*.duckdb")) == []


def test_a_dataset_may_have_the_name_of_a_schema_that_is_there(api: Sandbox, home: Path) -> None:
    pipeline = open_pipeline("mine", "duckdb", "main", pipelines_dir=str(home / "dlt"))

    assert check(pipeline).dataset == "main"
    assert sync(pipeline).enrollments == len(api.account)


@pytest.mark.parametrize("warehouse", [Postgres], indirect=True)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_publication_that_forbids_deletes_is_named_and_once_dropped_everything_loads(
    serve: Serve, warehouse: Postgres, *, is_first: bool
) -> None:
    api = serve(account(120)) if is_first else loaded(warehouse, serve)
    warehouse.ask("CREATE PUBLICATION everything FOR ALL TABLES")
    now = (START + timedelta(minutes=1)).isoformat()
    replied = [row for row in api.account.rows() if row["reply_email_message"]]
    api.account.put_many(
        {**row, "reply_email_message": None, "updated_at": now} for row in replied[:5]
    )
    api.account.clock.advance(timedelta(minutes=2))
    before = {name: [] for name in shown([])} if is_first else warehouse.stored()

    with pytest.raises(LoadFailed, match=r"from table \"\w+\".*replica identity") as caught:
        load(warehouse, api)

    assert "REPLICA IDENTITY using ALTER TABLE" in caught.value.next_step
    assert warehouse.stored() == before
    warehouse.ask("DROP PUBLICATION everything")
    load(warehouse, api)
    assert warehouse.stored() == shown(api.account)


def test_check_reports_an_odd_switch_too(
    api: Sandbox, pipeline: dlt.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_FAILED_JOBS", "false")

    for run in (check, status):
        with pytest.raises(ConfigurationError, match="LOAD__RAISE_ON_FAILED_JOBS"):
            run(pipeline)
    assert api.requests == []
