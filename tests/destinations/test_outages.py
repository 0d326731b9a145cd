"""A destination that goes away or is full, at any statement, ends in a sentence: no row is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import start_command
from destinations import Destination, DuckDB, Postgres, opened
from faults import PLACES, noticed
from held import held, lost
from lakes import Delta, DeltaOnS3
from matrix import note
from outages import (
    AWAY,
    FULL,
    MERGE,
    MOMENTS,
    OUTAGES,
    WHILE_READING,
    Bucket,
    Database,
    Folder,
    Moment,
    Outage,
    Striking,
    World,
    at,
)
from patience import PATIENCE
from postgres import Server, database
from standing import account, change, load
from statements import BucketProxy, StatementProxy
from warehouse import shown

from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]

CREDENTIALS = "DESTINATION__POSTGRES__CREDENTIALS"
KINDS = (DuckDB, Postgres, Delta, DeltaOnS3)
FEW, CHANGES = 160, 900


@pytest.mark.parametrize("outage", [AWAY, FULL])
def test_a_destination_that_fails_within_a_merge_loses_nothing(
    outage: str, serve: Serve, home: Path, request: pytest.FixtureRequest
) -> None:
    how = Meeting(OUTAGES[outage], MOMENTS[MERGE])
    end_of_run(how, serve(account(FEW)), DuckDB, home, request)


@pytest.mark.matrix
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_destination_that_fails_at_any_statement_loses_nothing(
    outage: str,
    moment: str,
    kind: type[Destination],
    serve: Serve,
    home: Path,
    request: pytest.FixtureRequest,
) -> None:
    cell = (outage, moment, kind.name)
    note(request.node, *cell)

    how = Meeting(OUTAGES[outage], MOMENTS[moment])
    ended = end_of_run(how, serve(account(FEW)), kind, home, request)

    note(request.node, *cell, outcome=ended)


@pytest.mark.matrix
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("outage", WHILE_READING)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_destination_that_fails_while_a_run_reads_loses_nothing(
    outage: str,
    place: str,
    kind: type[Destination],
    serve: Serve,
    home: Path,
    request: pytest.FixtureRequest,
) -> None:
    cell = (outage, place, kind.name)
    note(request.node, *cell)
    how = Meeting(WHILE_READING[outage], at(PLACES[place]), is_reading=True)

    ended = end_of_run(how, serve(account(FEW)), kind, home, request)

    note(request.node, *cell, outcome=ended)


@pytest.fixture(scope="module")
def small_log() -> Iterator[Server]:
    """Start a Postgres whose log is in small files, so that a limit meets its tables alone."""
    with Server("autovacuum=off", megabytes_of_log_file=1) as server:
        yield server


class Meeting(NamedTuple):
    """Which outage a run meets, and when: at a statement, or at a request while it reads."""

    outage: Outage
    moment: Moment
    is_reading: bool = False


def end_of_run(
    how: Meeting,
    api: Sandbox,
    kind: type[Destination],
    home: Path,
    request: pytest.FixtureRequest,
) -> str:
    """Load, let a run meet an outage, and run again; return how the run ended that met it."""
    with standing(kind, home, request) as (warehouse, world):
        load(warehouse, api)
        world.grow()
        change(api.account, CHANGES)
        before = held(warehouse)
        striking = Striking(how.outage, how.moment, world)

        with met(how, api, world, striking) as environment:
            code, errors = run(api, warehouse, world, environment)
            striking.end()

        assert striking.struck, "the run has not met the outage"
        assert_kind(code, errors)
        assert lost(before, held(warehouse), api.account) == {}
        assert code or warehouse.stored() == shown(api.account), "rows are lost in silence"
        load(warehouse, api)
        assert warehouse.stored() == shown(api.account), "rows are lost"
    return f"exit {code}, then equal" if code else "equal"


@contextmanager
def standing(
    kind: type[Destination], home: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Destination, World]]:
    """Yield an empty destination and its surroundings."""
    if kind is Postgres:
        server: Server = request.getfixturevalue("small_log")
        with (
            database(server.dsn) as dsn,
            StatementProxy(dsn) as proxy,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv(CREDENTIALS, dsn)
            yield Postgres({CREDENTIALS: dsn}), Database(server, dsn, proxy)
        return
    if kind is DeltaOnS3:
        with opened(kind, home, request) as found, BucketProxy(found.options["endpoint_url"]) as s3:
            yield found, Bucket(s3)
        return
    (home / "disk").mkdir()
    with opened(kind, home / "disk", request) as found:
        yield found, Folder(home / "disk", found.dlt_name)


@contextmanager
def met(how: Meeting, api: Sandbox, world: World, striking: Striking) -> Iterator[dict[str, str]]:
    """Let a run with this environment be struck."""
    if not how.is_reading:
        with world.watched(striking) as environment:
            yield environment
        return
    with noticed(api, striking.before, striking.after) as url:
        small = {"SOURCES__UNIFY__PAGE_SIZE": "20", "SOURCES__UNIFY__BASE_URL": url}
        yield {**world.reached, **small}


def run(
    api: Sandbox, warehouse: Destination, world: World, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command that may be struck; return its exit code and its errors."""
    words = ("sync", "--quiet", "--destination", warehouse.dlt_name)
    process = start_command(api, *words, window_rows=10 * FEW, environment=environment)
    world.process = process
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, errors


def assert_kind(code: int, errors: str) -> None:
    """A run that fails says what happened and what to do next, and nothing else."""
    print(code, errors)  # noqa: T201 - to see what a failure was like
    assert code in (0, 1)
    assert "Traceback" not in errors
    # The libraries of Postgres and of Delta print last words of their own.
    errors = errors[errors.find("Error: ") :] if code else ""
    assert not code or errors.startswith("Error: ")
    assert not code or "run it again" in errors
    # The sentence for unknown errors.
    assert "fix the cause" not in errors
