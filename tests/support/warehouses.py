"""Warehouses that the promises are tried on: ClickHouse's engine, and an emulator of BigQuery."""

from __future__ import annotations

import functools
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pyarrow as pa
import pytest
from destinations import DATASET, Destination


class ClickHouse(Destination):
    """A database of its own in ClickHouse's engine, asked by HTTP."""

    name = "ClickHouse's engine"
    dlt_name = "clickhouse"
    lane = (pytest.mark.lane,)
    loads_without_news = 1
    json = "text"
    _TYPES: ClassVar[dict[str, str]] = {
        "String": "text",
        "Bool": "bool",
        "DateTime64(6, 'UTC')": "timestamp",
        "Int64": "bigint",
        "Float64": "double",
    }

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        del folder
        native, http = request.getfixturevalue("clickhouse_server")
        credentials = "DESTINATION__CLICKHOUSE__CREDENTIALS"
        database = f"warehouse_{uuid4().hex[:8]}"
        values = {
            "HOST": "127.0.0.1",
            "PORT": str(native),
            "HTTP_PORT": str(http),
            "USERNAME": "loader",
            "PASSWORD": "password",
            "DATABASE": database,
            "SECURE": "0",
        }
        self = cls({f"{credentials}__{name}": value for name, value in values.items()})
        self.ask(f"CREATE DATABASE {database} ENGINE = Atomic")
        yield self

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        question = f"SELECT {', '.join(columns)} FROM {self._place(table)} FORMAT ArrowStream"
        with pa.ipc.open_stream(self.ask(question)) as stream:
            return [tuple(row.values()) for row in stream.read_all().to_pylist()]

    def columns(self, table: str) -> dict[str, str]:
        lines = self.ask(f"DESCRIBE {self._place(table)} FORMAT JSONEachRow").splitlines()
        return {column["name"]: self._type(column["type"]) for column in map(json.loads, lines)}

    def comments(self, table: str) -> dict[str, str]:
        """Return the comments of a table's columns, and its own without a name."""
        whose = f"database = '{self._setting('DATABASE')}'"
        own = f"SELECT '' AS column, comment FROM system.tables WHERE {whose} AND name"
        columns = f"SELECT name AS column, comment FROM system.columns WHERE {whose} AND table"
        name = f"'{DATASET}___{table}'"
        lines = self.ask(f"{own} = {name} UNION ALL {columns} = {name} FORMAT JSONEachRow")
        return {each["column"]: each["comment"] for each in map(json.loads, lines.splitlines())}

    def ask(self, question: str) -> bytes:
        """Ask the engine, not through dlt."""
        address = f"http://127.0.0.1:{self._setting('HTTP_PORT')}"
        with urllib.request.urlopen(address, data=question.encode()) as answer:
            body: bytes = answer.read()
            return body

    def _place(self, table: str) -> str:
        return f"{self._setting('DATABASE')}.{DATASET}___{table}"

    def _setting(self, name: str) -> str:
        return self.environment[f"DESTINATION__CLICKHOUSE__CREDENTIALS__{name}"]

    def _type(self, kind: str) -> str:
        return self._TYPES[kind.removeprefix("Nullable(").removesuffix(")" * ("Null" in kind))]


class BigQuery(Destination):
    """A project of its own in an emulator of BigQuery's protocol, asked by Google's client."""

    name = "BigQuery's emulator"
    dlt_name = "bigquery"
    lane = (pytest.mark.lane,)
    loads_without_news = 1
    json = "text"
    broken: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "test_new_fields_become_columns_in_the_same_run",
            "test_a_column_that_came_later_and_json_are_compared_by_content",
        ),
        "the emulator takes no more than one `ADD COLUMN` at a time and forgets it"
        " ([bqemulator](https://github.com/jjviscomi/bqemulator/issues), whose engine has"
        " [DuckDB 9677](https://github.com/duckdb/duckdb/issues/9677)); BigQuery documents both",
    )
    _TYPES: ClassVar[dict[str, str]] = {
        "STRING": "text",
        "BOOLEAN": "bool",
        "BOOL": "bool",
        "TIMESTAMP": "timestamp",
        "INTEGER": "bigint",
        "INT64": "bigint",
        "FLOAT": "double",
        "FLOAT64": "double",
        "JSON": "json",
    }

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        del folder
        address, tokens = request.getfixturevalue("bigquery_server")
        account = {
            "type": "service_account",
            "project_id": f"project-{uuid4().hex[:8]}",
            "client_email": "loader@example.iam.gserviceaccount.com",
            "private_key": _private_key(),
            "token_uri": tokens,
        }
        yield cls(
            {
                "BIGQUERY_EMULATOR_HOST": address,
                # The emulator takes files as they are; BigQuery itself unpacks them.
                "DATA_WRITER__DISABLE_COMPRESSION": "true",
                "DESTINATION__BIGQUERY__CREDENTIALS": json.dumps(account),
            }
        )

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        question = f"SELECT {', '.join(columns)} FROM `{self.project}.{DATASET}.{table}`"
        return [tuple(row.values()) for row in self.client.query(question).result()]

    def columns(self, table: str) -> dict[str, str]:
        stored = self.client.get_table(f"{self.project}.{DATASET}.{table}")
        return {column.name: self._TYPES[column.field_type] for column in stored.schema}

    def comments(self, table: str) -> dict[str, str]:
        """Return the descriptions of a table's columns, and its own without a name."""
        stored = self.client.get_table(f"{self.project}.{DATASET}.{table}")
        return {"": stored.description, **{c.name: c.description for c in stored.schema}}

    @property
    def project(self) -> str:
        """The project that this one has for itself."""
        account = json.loads(self.environment["DESTINATION__BIGQUERY__CREDENTIALS"])
        return str(account["project_id"])

    @property
    def client(self) -> Any:
        """Google's client, not through dlt."""
        from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415 - of the lane
        from google.cloud import bigquery  # noqa: PLC0415 - of the lane

        return bigquery.Client(
            self.project,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.environment["BIGQUERY_EMULATOR_HOST"]},
        )


@functools.cache
def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of the lane
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - of the lane

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
