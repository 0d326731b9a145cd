"""DuckLake: tables in Parquet files, with a catalogue in Postgres.

Its extension comes as a wheel for one version of DuckDB, which is older than ours: so this runs
from an environment of its own, which `make test-ducklake` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import postgres
import pytest
from conftest import KEY
from destinations import Destination
from warehouse import shown

from unify_source import sync, verify
from unify_source.cli.pipeline import open_pipeline
from unify_source.sandbox import Account, Sandbox

pytestmark = pytest.mark.ducklake

LAKE = "lake"
CREDENTIALS = "DESTINATION__DUCKLAKE__CREDENTIALS"


class DuckLake(Destination):
    """A lake, read by DuckDB and not through dlt."""

    name = dlt_name = "ducklake"

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        catalogue = self.environment[f"{CREDENTIALS}__CATALOG"]
        folder = self.environment[f"{CREDENTIALS}__STORAGE__BUCKET_URL"]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                f"ATTACH 'ducklake:postgres:{catalogue}' AS {LAKE}"
                f" (DATA_PATH '{folder}', METADATA_SCHEMA '{LAKE}')"
            )
            question = f"SELECT {', '.join(columns)} FROM {LAKE}.unify.{table}"
            return connection.execute(question).fetchall()


@pytest.fixture
def lake(home: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DuckLake]:
    monkeypatch.setenv("HOME", str(home))
    for package in ("duckdb_extension_ducklake", "duckdb_extension_postgres_scanner"):
        folder = files(package) / "extensions" / f"v{duckdb.__version__}"
        [extension] = folder.iterdir()
        with duckdb.connect() as connection:
            connection.execute(f"INSTALL '{extension}'")
    with postgres.database(postgres_server) as dsn:
        lake = DuckLake(
            {
                f"{CREDENTIALS}__CATALOG": dsn,
                f"{CREDENTIALS}__DUCKLAKE_NAME": LAKE,
                f"{CREDENTIALS}__STORAGE__BUCKET_URL": str(home / "files"),
            }
        )
        for name, value in lake.environment.items():
            monkeypatch.setenv(name, value)
        yield lake


def test_a_lake_equals_the_api_after_changes_and_a_verify_finds_no_difference(
    lake: DuckLake, serve: Callable[..., Sandbox]
) -> None:
    api = serve(Account(200))
    for seed in range(2):
        pipeline = open_pipeline("unify_gtm", "ducklake", "unify", pipelines_dir=f"machine {seed}")
        sync(pipeline, api_key=KEY, base_url=api.url)
        assert lake.stored() == shown(api.account)
        api.account.change(40, seed=seed)
    sync(pipeline, api_key=KEY, base_url=api.url)

    assert lake.stored() == shown(api.account)
    assert not verify(pipeline, api_key=KEY, base_url=api.url).differences
