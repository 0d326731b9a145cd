"""What a database says on connecting means the same to every command, and says what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import dlt
import postgres
import pytest
from conftest import KEY

from unify_source import backfill, sync, verify
from unify_source.errors import ConfigurationError, DestinationUnreachable, UnifyError
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
def test_an_unreachable_database_exits_with_1_whatever_the_command(kind: str, serve: Serve) -> None:
    api = serve(Account(5))

    for name, run in RUNS.items():
        error = failed(run, UNREACHABLE[kind](""), api)

        assert (name, type(error), error.exit_code) == (name, DestinationUnreachable, 1)
        assert "make sure that the destination can be reached" in error.next_step
    # Only `check` asks the API first.
    assert len(api.requests) == 1


@pytest.mark.parametrize("kind", MISCONFIGURED)
def test_credentials_that_a_database_refuses_end_with_2_whatever_the_command(
    kind: str, serve: Serve, postgres_server: str
) -> None:
    api = serve(Account(5))

    for name, run in RUNS.items():
        error = failed(run, MISCONFIGURED[kind](postgres_server), api)

        assert (name, type(error), error.exit_code) == (name, ConfigurationError, 2)
        assert "Correct its credentials" in error.next_step
    assert len(api.requests) == 1


def test_a_database_that_is_full_of_sessions_is_there_another_time(
    serve: Serve, postgres_server: str
) -> None:
    api = serve(Account(5))
    role = f"crowded_{closed()}"
    with postgres.database(postgres_server) as dsn:
        postgres.ask(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'pw-never' CONNECTION LIMIT 0")
        address = f"postgresql://{role}:pw-never@{dsn.partition('@')[2]}"

        for run in (sync, check):
            assert isinstance(failed(run, address, api), DestinationUnreachable)
