"""Destinations that the promises are tried on: how each is reached, and read without dlt.

To add one: a class with `reads` and `columns`, and its place in `DESTINATIONS`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import dlt
import duckdb
import postgres
import pytest
from warehouse import SHOWN, Rows, comparable, compared

from unify_source.cli.pipeline import open_pipeline
from unify_source.common.resources import BY_NAME

DATASET = "unify"
MACHINES = "machines"


class Destination:
    """One destination: `environment` is all that a pipeline or a command needs to reach it.

    `dlt_name` is what dlt calls it, `json` what its JSON columns are. `loads_without_news` is how
    many loads a run without news makes: one where a run's row in the ledger is loaded. `broken`
    names the promises that are known not to hold on it, or single tests of them, each with its
    reason. `takes_statements` if `change` works, `deletes_rows` if a repair can. `by_account` if
    several accounts share the dataset. `merges_by` is the format of the job that merges a table.
    """

    name: ClassVar[str]
    dlt_name: ClassVar[str]
    json: ClassVar[str] = "json"
    lane: ClassVar[tuple[pytest.MarkDecorator, ...]] = ()
    loads_without_news: ClassVar[int] = 0
    broken: ClassVar[dict[str, str]] = {}
    takes_statements: ClassVar[bool] = False
    deletes_rows: ClassVar[bool] = True
    merges_by: ClassVar[str] = "sql"
    by_account = False

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        """Give an empty one; `folder` is the test's own."""
        raise NotImplementedError

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        """Read these columns in any order of rows: times aware, JSON as Python values."""
        raise NotImplementedError

    def reads_each(self, columns: dict[str, list[str]]) -> Rows:
        """Read these columns of several tables."""
        return {table: self.reads(table, names) for table, names in columns.items()}

    def columns(self, table: str) -> dict[str, str]:
        """Tell the columns of a table: text, bool, timestamp, bigint, double or json."""
        raise NotImplementedError

    def change(self, statement: str) -> None:
        """Run a statement that changes a table, as a person might who means well."""
        raise NotImplementedError

    def change_each(self, statements: list[str]) -> None:
        """Run several statements."""
        for statement in statements:
            self.change(statement)

    def keep(self, place: Path) -> bool:
        """Save a copy of all contents for `restore`, into a new folder, if it can."""
        del place
        return False

    def restore(self, place: Path) -> None:
        """Restore the saved contents."""
        raise NotImplementedError

    def pipeline(
        self, machine: str = "one", name: str = "unify_gtm", **options: Any
    ) -> dlt.Pipeline:
        """Open the commands' pipeline or one of another name, with a folder for each machine."""
        folder = Path(MACHINES, machine).absolute()
        return open_pipeline(name, self.dlt_name, DATASET, pipelines_dir=str(folder), **options)

    def stored(self) -> Rows:
        """Return every promised column of every table, sorted by key."""
        return self._stored([table.name for table in SHOWN])

    def stored_table(self, name: str) -> list[tuple[Any, ...]]:
        """Return every promised column of one table, sorted by key."""
        return self._stored([name])[name]

    def _stored(self, names: list[str]) -> Rows:
        columns = {name: [column.name for column in compared(BY_NAME[name])] for name in names}
        rows_by_table = self.reads_each(columns)
        return {
            name: sorted((comparable(BY_NAME[name], row) for row in rows), key=lambda row: row[0])
            for name, rows in rows_by_table.items()
        }

    def keys(self, table: str) -> list[str]:
        """Return the keys of a table, sorted, duplicates included."""
        return sorted(key for (key,) in self.reads(table, ["id"]))

    def loads(self) -> list[str]:
        """Return the loads that were finished."""
        return sorted(load for (load,) in self.reads("_dlt_loads", ["load_id"]))


class DuckDB(Destination):
    """A file in the test's folder."""

    name = dlt_name = "duckdb"
    takes_statements = True
    _TYPES: ClassVar[dict[str, str]] = {
        "VARCHAR": "text",
        "BOOLEAN": "bool",
        "TIMESTAMP WITH TIME ZONE": "timestamp",
        "BIGINT": "bigint",
        "DOUBLE": "double",
        "JSON": "json",
    }

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        del request
        yield cls({"DESTINATION__DUCKDB__CREDENTIALS": str(folder / "unify_gtm.duckdb")})

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        return self.ask(_selected(table, columns))

    def reads_each(self, columns: dict[str, list[str]]) -> Rows:
        # Opening a file takes DuckDB longer than reading such a table.
        with self._opened() as connection:
            return {
                table: connection.execute(_selected(table, names)).fetchall()
                for table, names in columns.items()
            }

    def columns(self, table: str) -> dict[str, str]:
        described = self.ask(f"DESCRIBE {DATASET}.{table}")
        return {name: self._TYPES[kind] for name, kind, *_ in described}

    def change(self, statement: str) -> None:
        (file,) = self.environment.values()
        with duckdb.connect(file) as connection:
            connection.execute(statement)

    def change_each(self, statements: list[str]) -> None:
        self.change("; ".join(statements))

    def keep(self, place: Path) -> bool:
        (file,) = self.environment.values()
        place.mkdir()
        shutil.copy(file, place / "kept.duckdb")
        return True

    def restore(self, place: Path) -> None:
        (file,) = self.environment.values()
        shutil.copy(place / "kept.duckdb", file)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Ask the database, not through dlt."""
        with self._opened() as connection:
            return connection.execute(question).fetchall()

    @contextmanager
    def _opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        (file,) = self.environment.values()
        with duckdb.connect(file, read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


class Postgres(Destination):
    """A database of its own on a server that runs."""

    name = dlt_name = "postgres"
    takes_statements = True
    _TYPES: ClassVar[dict[str, str]] = {
        "character varying": "text",
        "boolean": "bool",
        "timestamp with time zone": "timestamp",
        "bigint": "bigint",
        "double precision": "double",
        "json": "json",
        "jsonb": "json",
    }

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        del folder
        with postgres.database(request.getfixturevalue("postgres_server")) as dsn:
            yield cls({"DESTINATION__POSTGRES__CREDENTIALS": dsn})

    @property
    def dsn(self) -> str:
        """The address of the database."""
        return self.environment["DESTINATION__POSTGRES__CREDENTIALS"]

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        return list(self.ask(_selected(table, columns)))

    def reads_each(self, columns: dict[str, list[str]]) -> Rows:
        questions = [_selected(table, names) for table, names in columns.items()]
        answers = postgres.ask_each(self.dsn, questions)
        return {table: list(rows) for table, rows in zip(columns, answers, strict=True)}

    def change(self, statement: str) -> None:
        self.ask(statement)

    def change_each(self, statements: list[str]) -> None:
        self.change("; ".join(statements))

    def keep(self, place: Path) -> bool:
        place.mkdir()
        (place / "dsn").write_text(postgres.kept_copy(self.dsn))
        return True

    def restore(self, place: Path) -> None:
        postgres.copy((place / "dsn").read_text(), self.dsn)

    def columns(self, table: str) -> dict[str, str]:
        described = self.ask(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s",
            DATASET,
            table,
        )
        return {name: self._TYPES[kind] for name, kind in described}

    def ask(self, question: str, *values: Any) -> Any:
        """Ask the database, not through dlt."""
        return postgres.ask(self.dsn, question, *values)


def _selected(table: str, columns: list[str]) -> str:
    return f"SELECT {', '.join(columns)} FROM {DATASET}.{table}"


DESTINATIONS: tuple[type[Destination], ...] = (DuckDB, Postgres)


@contextmanager
def opened(kind: type[Destination], folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give an empty destination, and let this process and those that it starts reach it."""
    with kind.opened(folder, request) as destination, pytest.MonkeyPatch.context() as patch:
        for name, value in destination.environment.items():
            patch.setitem(os.environ, name, value)
        yield destination
