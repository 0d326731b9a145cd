"""DuckLake: tables in Parquet files with a catalogue in Postgres, read by DuckDB and not by dlt.

Its extension comes as a wheel for one version of DuckDB, which is older than ours: so it is tried
from an environment of its own, which `make test-ducklake` makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import postgres
import pytest
from destinations import DATASET, Destination, DuckDB
from warehouse import Rows

LAKE = "lake"
CREDENTIALS = "DESTINATION__DUCKLAKE__CREDENTIALS"


class DuckLake(Destination):
    """A lake in the test's folder, whose catalogue is a database of its own."""

    name = "DuckLake"
    dlt_name = "ducklake"
    lane = (pytest.mark.ducklake,)
    loads_without_news = 1
    takes_statements = True
    _TYPES: ClassVar[dict[str, str]] = DuckDB._TYPES  # noqa: SLF001 - of the same engine

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        with (
            pytest.MonkeyPatch.context() as patch,
            postgres.database(request.getfixturevalue("postgres_server")) as dsn,
        ):
            patch.setenv("HOME", str(folder))
            for package in ("duckdb_extension_ducklake", "duckdb_extension_postgres_scanner"):
                [extension] = (files(package) / "extensions" / f"v{duckdb.__version__}").iterdir()
                with duckdb.connect() as connection:
                    connection.execute(f"INSTALL '{extension}'")
            yield cls(
                {
                    "HOME": str(folder),
                    f"{CREDENTIALS}__CATALOG": dsn,
                    f"{CREDENTIALS}__DUCKLAKE_NAME": LAKE,
                    f"{CREDENTIALS}__STORAGE__BUCKET_URL": str(folder / "files"),
                }
            )

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        return self.reads_each({table: columns})[table]

    def reads_each(self, columns: dict[str, list[str]]) -> Rows:
        with self._attached() as connection:
            return {
                table: connection.execute(
                    f"SELECT {', '.join(names)} FROM {DATASET}.{table}"
                ).fetchall()
                for table, names in columns.items()
            }

    def columns(self, table: str) -> dict[str, str]:
        with self._attached() as connection:
            described = connection.execute(f"DESCRIBE {DATASET}.{table}").fetchall()
        return {name: self._TYPES[kind] for name, kind, *_ in described}

    def change(self, statement: str) -> None:
        with self._attached() as connection:
            connection.execute(statement)

    @contextmanager
    def _attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        catalogue, folder = (
            self.environment[f"{CREDENTIALS}__{name}"]
            for name in ("CATALOG", "STORAGE__BUCKET_URL")
        )
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                f"ATTACH 'ducklake:postgres:{catalogue}' AS {LAKE}"
                f" (DATA_PATH '{folder}', METADATA_SCHEMA '{LAKE}'); USE {LAKE}"
            )
            yield connection
