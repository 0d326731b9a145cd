from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dlt
import dying
import matrix
import postgres
import pytest
import scratch
import servers
import tables
import warm
from destinations import DESTINATIONS, Destination, DuckDB, Postgres, opened
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from ducklakes import DuckLake
from hypothesis import HealthCheck, settings
from lakes import Delta, DeltaOnS3, Iceberg, Parquet
from patience import PATIENCE
from warehouses import BigQuery, ClickHouse

from unify_source.cli.pipeline import open_pipeline
from unify_source.common.dlt_seam import active_pipeline
from unify_source.common.errors import redaction
from unify_source.sandbox import Account, Sandbox

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
# Without what it compiled before, a command takes five times as long to start, and pytest twice.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
scratch.write_in_memory()

IS_SOAK = "UNIFY_TEST_ROUNDS" in os.environ
settings.register_profile(
    "unify",
    deadline=None,
    max_examples=1_000 if IS_SOAK else 40,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("unify")

KEY = "sandbox-key"

# What runs within Dagster can be imported in its environment alone.
collect_ignore_glob = [] if find_spec("dagster") else ["orchestrators/test_dagster*.py"]

KEPT = (
    "UNIFY_OPENAPI",
    "UNIFY_TEST_ROUNDS",
    "UNIFY_TEST_SEED",
    postgres.NAMED,
    servers.BIGQUERY_ENVIRONMENT,
)
LANE: tuple[type[Destination], ...] = (ClickHouse, BigQuery, Delta, DeltaOnS3, Iceberg, Parquet)
# The extension for DuckLake is a wheel for an older DuckDB, so only its own environment has it.
INSTALLED: list[type[Destination]] = [*DESTINATIONS, *LANE]
if find_spec("duckdb_extension_ducklake"):
    INSTALLED.append(DuckLake)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the pages that tables are written into."""
    parser.addoption("--tables", type=Path, help="write the tables on destinations into this page")
    parser.addoption("--matrix", type=Path, help="write the table of faults into this page")


def pytest_configure(config: pytest.Config) -> None:
    """Write the tables at the end if a page is given."""
    if page := config.getoption("--tables"):
        config.pluginmanager.register(tables.Tables(page.absolute()))
    if page := config.getoption("--matrix"):
        config.pluginmanager.register(matrix.Matrix(page.absolute()))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Draw more examples for each property in a soak; leave some trials to `make test-long`."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        item.add_marker("rounds")
    if item.get_closest_marker("mostly_on_duckdb"):
        given = getattr(item, "callspec", None)
        if given and Postgres in given.params.values():
            item.add_marker("long")


def pytest_collection_finish() -> None:
    """Exclude modules and tests from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Unfreeze them: otherwise DuckDB lists its types as leaked at exit."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give every test its own working folder, and no configuration but its own."""
    for name in list(os.environ):
        if name.startswith(("SOURCES__", "DESTINATION__", "UNIFY_")) and name not in KEPT:
            monkeypatch.delenv(name)
    # A secret of one test may be a plain word in the next.
    monkeypatch.setattr(redaction, "_kept", set())
    monkeypatch.setattr(redaction, "_pattern", None)
    monkeypatch.setattr(redaction, "_is_unencoded", False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    # A source is checked against the pipeline that was made last.
    if pipeline := active_pipeline():
        pipeline.deactivate()
    yield tmp_path
    # dlt keeps the files that it has read, also for the next test.
    if files := list(tmp_path.glob(".dlt/*.toml")):
        for file in files:
            file.unlink()
        Container()[PluggableRunContext].reload_providers()


@pytest.fixture
def serve() -> Iterator[Callable[..., Sandbox]]:
    """Start sandboxes that stop with the test."""
    started: list[Sandbox] = []

    def start(account: Account | None = None, **options: Any) -> Sandbox:
        sandbox = Sandbox(Account(500) if account is None else account, key=KEY, **options)
        sandbox.__enter__()
        started.append(sandbox)
        return sandbox

    yield start
    for sandbox in started:
        sandbox.__exit__(None, None, None)


def start_command(
    api: Sandbox, *words: str, window_rows: int = 400, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command as a process, with windows so small that a few hundred rows are several."""
    settings = {
        "UNIFY_API_KEY": KEY,
        "SOURCES__UNIFY__BASE_URL": api.url,
        "SOURCES__UNIFY__PAGE_SIZE": "50",
        "SOURCES__UNIFY__WINDOW_ROWS": str(window_rows),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return warm.start(words, {**os.environ, **settings, **(environment or {})}, **pipes)


def start_and_kill(api: Sandbox, *words: str, at: str | float, times: int = 1) -> None:
    """Start a command that is killed when it reaches a point for the n-th time: see `dying`.

    A number is seconds after its first request: that may be too late.
    """
    asked = len(api.requests)
    point = {dying.AT: f"{at} {times}"} if isinstance(at, str) else {}
    process = start_command(api, *words, environment=point)
    if not isinstance(at, str):
        while len(api.requests) == asked and process.poll() is None:
            time.sleep(0.005)
        time.sleep(at)
        process.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    may_be = (-signal.SIGKILL,) if isinstance(at, str) else (-signal.SIGKILL, 0)
    assert process.returncode in may_be, errors


def rounds_and_chance(usual: int) -> tuple[int, random.Random]:
    """Return the number of rounds and the random generator; the environment may set both."""
    rounds = int(os.environ.get("UNIFY_TEST_ROUNDS", usual))
    seed = int(os.environ.get("UNIFY_TEST_SEED", random.randrange(10**6)))
    print(f"UNIFY_TEST_SEED={seed}")  # noqa: T201 - to repeat a failure
    return rounds, random.Random(seed)


@pytest.fixture
def pipeline(home: Path) -> dlt.Pipeline:
    """Return the commands' own pipeline, in the test's folder."""
    return open_pipeline("unify_gtm", "duckdb", "unify", pipelines_dir=str(home / "dlt"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Run the Postgres that all tests share."""
    with postgres.running() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[tuple[int, int]]:
    """Run the engine of ClickHouse that all tests share."""
    with servers.clickhouse_running() as ports:
        yield ports


@pytest.fixture(scope="session")
def bigquery_server() -> Iterator[tuple[str, str]]:
    """Run the emulator of BigQuery that all tests share."""
    with servers.bigquery_running() as addresses:
        yield addresses


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Run the S3 that all tests share."""
    with servers.s3_running() as address:
        yield address


@pytest.fixture(params=[pytest.param(d, id=d.name, marks=d.lane) for d in INSTALLED])
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    """Give each test every destination in turn, empty.

    A promise (`@pytest.mark.promise`), or a single test, that is known not to hold must fail.
    """
    kind: type[Destination] = request.param
    marker = request.node.get_closest_marker("promise")
    promises: tuple[str, ...] = marker.args if marker else ()
    tables.note(request.node, kind.name, promises)
    for broken in (*promises, request.node.originalname):
        if reason := kind.broken.get(broken):
            promise = (broken,) if broken in promises else promises[:1]
            why = ": ".join([*promise, reason])
            request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    with opened(kind, home, request) as destination:
        yield destination


@pytest.fixture
def warehouse_file(home: Path, request: pytest.FixtureRequest) -> Iterator[DuckDB]:
    """Yield an empty DuckDB."""
    with opened(DuckDB, home, request) as destination:
        yield destination
