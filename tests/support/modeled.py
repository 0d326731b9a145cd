"""Both databases with the tables of one account and its models, and how to ask them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import duckdb
import postgres
from conftest import KEY

from unify_source import make_models, sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.sandbox import Sandbox

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
def both(folder: Path, server: str, api: Sandbox) -> Iterator[tuple[Database, Database]]:
    """Load an API into DuckDB and Postgres, and make the models there."""
    with postgres.database(server) as dsn:
        databases = Database("duckdb", str(folder / "unify_gtm.duckdb")), Database("postgres", dsn)
        for database in databases:
            pipeline = database.pipeline(folder)
            sync(pipeline, api_key=KEY, base_url=api.url)
            make_models(pipeline)
        yield databases
