"""Both databases with the tables of one account and its models, and how to ask them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dlt
import duckdb
import postgres
from conftest import KEY

from unify_source import make_models, sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.sandbox import Sandbox

KINDS = ("duckdb", "postgres")
PASSWORD = "of-the-reader"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Database:
    """A database with tables and models, and its credentials."""

    kind: str
    credentials: str

    def pipeline(self, folder: Path) -> dlt.Pipeline:
        """Open the commands' pipeline on it."""
        return open_pipeline(
            "unify_gtm",
            self.kind,
            "unify",
            credentials=self.credentials,
            pipelines_dir=str(folder / self.kind),
        )

    def ask(self, question: str) -> Rows:
        """Ask it, not through dlt; times come back in UTC."""
        if self.kind == "postgres":
            return list(postgres.ask(self.credentials, question))
        with duckdb.connect(self.credentials) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(question).fetchall()


@contextmanager
def role_of(database: Database, name: str) -> Iterator[Database]:
    """Yield a Postgres database as seen by a new role, which may read nothing yet."""
    parts = urlsplit(database.credentials)
    place = f"{name}:{PASSWORD}@{parts.hostname}:{parts.port}"
    database.ask(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        yield Database(database.kind, urlunsplit(parts._replace(netloc=place)))
    finally:
        database.ask(f"DROP OWNED BY {name} CASCADE")
        database.ask(f"DROP ROLE {name}")


@contextmanager
def both(folder: Path, server: str, api: Sandbox) -> Iterator[tuple[Database, Database]]:
    """Load an API into DuckDB and Postgres, and make the models there."""
    with filled(folder, server, api, *KINDS) as databases:
        on_duckdb, on_postgres = databases
        yield on_duckdb, on_postgres


@contextmanager
def filled(folder: Path, server: str, api: Sandbox, *kinds: str) -> Iterator[tuple[Database, ...]]:
    """Load an API into databases of these kinds, and make the models there."""
    with postgres.database(server) as dsn:
        places = {"duckdb": str(folder / "unify_gtm.duckdb"), "postgres": dsn}
        databases = tuple(Database(kind, places[kind]) for kind in kinds)
        for database in databases:
            pipeline = database.pipeline(folder)
            sync(pipeline, api_key=KEY, base_url=api.url)
            make_models(pipeline)
        yield databases
