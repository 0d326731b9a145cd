"""Every command reports a failed connection to a database alike, with what to do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import dlt
import postgres
import pytest
from conftest import KEY
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from listening import listening

from unify_source import backfill, sync, verify
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import (
    ConfigurationError,
    DestinationUnreachable,
    NotPermitted,
    UnifyError,
)
from unify_source.runs.check import check
from unify_source.runs.status import status
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]
Run = Callable[..., object]

RUNS: dict[str, Run] = {
    "sync": sync,
    "backfill": lambda pipeline, **how: backfill(pipeline, "2000-01-01", **how),
    "check": check,
    "status": lambda pipeline, **_: status(pipeline),
    "verify": verify,
}


def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


UNREACHABLE: dict[str, Callable[[str], str]] = {
    "refused": lambda _: f"postgresql://loader:pw-never@127.0.0.1:{closed()}/postgres",
    "unknown host": lambda _: "postgresql://loader:pw-never@nobody.invalid:5432/postgres",
}
MISCONFIGURED: dict[str, Callable[[str], str]] = {
    "wrong password": lambda dsn: dsn.replace(f":{urlsplit(dsn).password}@", ":pw-never@"),
    "unknown role": lambda dsn: f"postgresql://nobody:pw-never@{dsn.partition('@')[2]}",
    "unknown database": lambda dsn: f"{dsn.rpartition('/')[0]}/nowhere",
    "no TLS there": lambda dsn: f"{dsn}?sslmode=require",
    "an option that is none": lambda dsn: f"{dsn}?pw_never=1",
}


def failed(run: Run, address: str, api: Sandbox) -> UnifyError:
    """Return how a run ends with Postgres at an address."""
    pipeline = dlt.pipeline(
        "unify_gtm", destination=dlt.destinations.postgres(address), dataset_name="unify"
    )
    with pytest.raises(UnifyError) as caught:
        run(pipeline, api_key=KEY, base_url=api.url)
    assert "pw-never" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_every_command_exits_with_1_if_the_database_is_unreachable(kind: str, serve: Serve) -> None:
    api = serve(Account(5))

    for name, run in RUNS.items():
        error = failed(run, UNREACHABLE[kind](""), api)

        assert (name, type(error), error.exit_code) == (name, DestinationUnreachable, 1)
        assert "make sure that the destination can be reached" in error.next_step
    # Only `check` asks the API first.
    assert len(api.requests) == 1


@pytest.mark.parametrize("kind", MISCONFIGURED)
def test_every_command_exits_with_2_if_the_database_refuses_the_credentials(
    kind: str, serve: Serve, postgres_server: str
) -> None:
    api = serve(Account(5))

    for name, run in RUNS.items():
        error = failed(run, MISCONFIGURED[kind](postgres_server), api)

        assert (name, type(error), error.exit_code) == (name, ConfigurationError, 2)
        assert "Correct its credentials" in error.next_step
    assert len(api.requests) == 1


DENIED = {
    "no right to create a dataset": "SELECT 1",
    "no right to write into it": "CREATE SCHEMA unify; GRANT USAGE ON SCHEMA unify TO {role}",
    "a table of another role": (
        "GRANT CREATE ON DATABASE {database} TO {role}; CREATE SCHEMA unify;"
        " GRANT ALL ON SCHEMA unify TO {role}; CREATE TABLE unify._dlt_version"
        " (version int, engine_version int, inserted_at timestamptz, schema_name text,"
        " version_hash text, schema text)"
    ),
    "read-only": (
        "GRANT CREATE ON DATABASE {database} TO {role};"
        " ALTER ROLE {role} SET default_transaction_read_only = on"
    ),
}


@pytest.mark.parametrize("kind", DENIED)
def test_every_command_exits_with_2_if_the_role_lacks_a_privilege(
    kind: str, serve: Serve, postgres_server: str
) -> None:
    api, role = serve(Account(5)), f"loader_{closed()}"
    with postgres.database(postgres_server) as dsn:
        postgres.ask(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'pw-never'")
        postgres.ask(dsn, DENIED[kind].format(role=role, database=urlsplit(dsn).path[1:]))
        address = f"postgresql://{role}:pw-never@{dsn.partition('@')[2]}"

        for name in ("sync", "backfill", "check"):
            error = failed(RUNS[name], address, api)

            assert (name, type(error), error.exit_code) == (name, NotPermitted, 2)
            assert "let this user write there" in error.next_step


def test_every_command_exits_with_2_if_the_duckdb_file_is_read_only(
    serve: Serve, pipeline: dlt.Pipeline, home: Path
) -> None:
    api = serve(Account(5))
    sync(pipeline, api_key=KEY, base_url=api.url)
    api.account.change(5, seed=1)
    credentials = DuckDbCredentials(str(home / "unify_gtm.duckdb"), read_only=True)
    read_only = open_pipeline("unify_gtm", "duckdb", "unify", credentials=credentials)

    for name in ("sync", "backfill", "check"):
        with pytest.raises(NotPermitted, match="read-only"):
            RUNS[name](read_only, api_key=KEY, base_url=api.url)


# As a server writes them that was started in German, Japanese or Russian.
FOREIGN = {
    ("28P01", "Passwort-Authentifizierung für Benutzer »loader« fehlgeschlagen"): 2,
    ("28000", 'ロール"loader"は存在しません'): 2,
    ("3D000", 'база данных "nowhere" не существует'): 2,
    ("57P03", "das Datenbanksystem startet"): 1,
    ("53300", "tut mir leid, schon zu viele Verbindungen"): 1,
}


@pytest.mark.parametrize("answer", FOREIGN, ids=lambda answer: answer[0])
def test_a_server_may_refuse_in_any_language(answer: tuple[str, str], serve: Serve) -> None:
    code, sentence = answer
    fields = {"S": "ВАЖНО", "V": "FATAL", "C": code, "M": sentence}
    body = b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0"

    def refuse(client: socket.socket) -> None:
        if client.recv(4096).endswith(_ASKS_FOR_TLS):
            client.sendall(b"N")
            client.recv(4096)
        client.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)

    with listening(refuse) as port:
        address = f"postgresql://loader:pw-never@127.0.0.1:{port}/nowhere"
        for run in (sync, check):
            assert failed(run, address, serve(Account(5))).exit_code == FOREIGN[answer]


_ASKS_FOR_TLS = struct.pack("!HH", 1234, 5679)


def test_a_database_without_free_connections_is_a_temporary_failure(
    serve: Serve, postgres_server: str
) -> None:
    api = serve(Account(5))
    role = f"crowded_{closed()}"
    with postgres.database(postgres_server) as dsn:
        postgres.ask(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'pw-never' CONNECTION LIMIT 0")
        address = f"postgresql://{role}:pw-never@{dsn.partition('@')[2]}"

        for run in (sync, check):
            assert isinstance(failed(run, address, api), DestinationUnreachable)
