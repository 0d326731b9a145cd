"""What only Postgres can show: formats, indexes, its lock, and a server that goes away."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlt
import pytest
import warm
from conftest import KEY, rounds_and_chance, start_command
from destinations import Postgres, opened
from listing import listing, version
from patience import PATIENCE
from postgres import PASSWORD, Server, ask
from proxy import Proxy
from standing import account, change, load
from stopping import assert_stops
from turns import answers_once, wait_until
from warehouse import shown

from unify_source import UnifyError, sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.cli.process import FAILED
from unify_source.common.errors import LoadFailed
from unify_source.common.resources import QUARANTINE, TABLES
from unify_source.runs.check import check
from unify_source.runs.status import status
from unify_source.sandbox import DRIFTS, Account, Sandbox

Serve = Callable[..., Sandbox]

CREDENTIALS = "DESTINATION__POSTGRES__CREDENTIALS"
TO_POSTGRES = ("--destination", "postgres")


@pytest.fixture
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Postgres]:
    """Give each test an empty database."""
    with opened(Postgres, home, request) as found:
        yield found


def ended(process: subprocess.Popen[str], timeout: float = PATIENCE) -> tuple[int, str]:
    """Wait for a command, and return its exit code and output."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out + err


def indexed(warehouse: Postgres) -> set[tuple[str, str]]:
    found = warehouse.ask("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'unify'")
    return {(table, re.findall(r"\((\w+)\)", made)[0]) for table, made in found}


def test_every_key_has_an_index_from_the_first_load_on(serve: Serve, warehouse: Postgres) -> None:
    load(warehouse, serve(account()))

    keys = {(table.name, "id") for table in (*TABLES, QUARANTINE)}
    owners = {(table.name, table.dies_with) for table in TABLES if table.dies_with}
    assert indexed(warehouse) >= keys | owners


@pytest.mark.long
@pytest.mark.parametrize("first", ["with the driver", "without it"])
def test_json_columns_are_loaded_with_and_without_the_driver(
    first: str, serve: Serve, warehouse: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = account()
    api = serve(living, reshape=DRIFTS["new-fields"])
    is_missing = first == "without it"
    for seed in range(3):
        monkeypatch.setenv("DISABLE_ADBC_DETECTION", str(is_missing))
        load(warehouse, api)
        assert warehouse.stored() == shown(living)
        lists = warehouse.reads("enrollments", ["beta_list"])
        assert all(found == (["a", "b"],) for found in lists)
        change(living, 100, seed)
        is_missing = not is_missing


def test_without_the_driver_texts_are_kept_and_a_warning_is_given(
    warehouse: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DISABLE_ADBC_DETECTION", "true")
    texts = ["", "NULL", "\\N", "a\\b", "'", "two\nlines", "ü☃😀", "%s{}"]
    rows = [
        version(f"e{n}", "05Z", sequence={"id": f"s{n}", "name": text, "is_paused": False})
        for n, text in enumerate(texts)
    ]

    with listing(rows) as url, caplog.at_level(logging.WARNING, "unify_source"):
        load(warehouse, url)

    assert warehouse.stored() == shown(rows)
    assert "pip install 'unify-source[postgres]'" in caplog.text


def test_a_character_that_postgres_cannot_store_does_not_stop_the_load(
    warehouse: Postgres,
) -> None:
    row = version("e1", "05Z", sequence={"id": "s1", "name": "a\0b", "is_paused": False})

    with listing([row]) as url:
        load(warehouse, url)

    [(key, name, *_)] = warehouse.stored()["sequences"]
    assert (key, name) == ("s1", "a\ufffdb")


def secretly_at(address: str, server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the environment to the server's port with a password, and return the password."""
    secret = "pa55-w0rd-of-mine"
    monkeypatch.setenv(CREDENTIALS, address.format(secret, urlsplit(server).port))
    return secret


@pytest.mark.parametrize(
    "credentials",
    [
        "postgresql://loader:{0}@127.0.0.1:1/warehouse",
        "postgresql://stranger:{0}@127.0.0.1:{1}/warehouse",
        "postgresql://loader:{0}@127.0.0.1:{1}/nowhere",
        "postgresql://loader:{0}@127.0.0.1:wrong/warehouse",
        "loader:{0}@127.0.0.1:{1}/warehouse",
        "host=127.0.0.1 user=loader password={0}",
    ],
)
def test_no_error_shows_the_password(
    credentials: str, serve: Serve, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secretly_at(credentials, postgres_server, monkeypatch)
    settings: dict[str, Any] = {"api_key": KEY, "base_url": serve(Account(10)).url}

    def opened() -> dlt.Pipeline:
        return open_pipeline("unify_gtm", "postgres", "unify")

    for run in (lambda: sync(opened(), **settings), lambda: check(opened(), **settings)):
        with pytest.raises(UnifyError) as failed:
            run()
        assert secret not in str(failed.value)
    with pytest.raises(UnifyError) as failed:
        status(opened())
    assert secret not in str(failed.value)


@pytest.mark.parametrize("address", ["postgresql://x:{0}@127.0.0.1:{1}/x", "x:{0}@127.0.0.1/x"])
def test_no_log_and_no_trace_shows_the_password(
    address: str, serve: Serve, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secretly_at(address, postgres_server, monkeypatch)

    code, output = ended(start_command(serve(Account(10)), "sync", "--verbose", *TO_POSTGRES))

    assert code in (1, 2)
    assert "Traceback" in output
    assert secret not in output


def test_tls_is_used_if_it_is_required(
    serve: Serve, warehouse: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account())
    with Proxy(warehouse.dsn, tls=True) as encrypting:
        monkeypatch.setenv(CREDENTIALS, f"{encrypting.url}?sslmode=require")
        load(warehouse, api)
        assert encrypting.encrypted > 2
        assert warehouse.stored() == shown(api.account)

        monkeypatch.setenv(CREDENTIALS, f"{encrypting.url}?sslmode=verify-full")
        with pytest.raises(UnifyError, match="certificate"):
            load(warehouse, api)

    with Proxy(warehouse.dsn) as plain:
        monkeypatch.setenv(CREDENTIALS, f"{plain.url}?sslmode=require")
        with pytest.raises(UnifyError, match="SSL"):
            load(warehouse, api)


@pytest.mark.rounds
def test_killing_the_server_during_a_load_loses_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as server:
        monkeypatch.setenv(CREDENTIALS, server.dsn)

        def take_away() -> None:
            server.kill()
            server.start()

        assert_survives(serve, Postgres({CREDENTIALS: server.dsn}), take_away)


class Swallowing(Proxy):
    """Forwards the statement of the first COPY, and swallows what that client sends after it."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.is_copying = threading.Event()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                if data.startswith(b"Q") and b"COPY" in data and not self.is_copying.is_set():
                    self.is_copying.set()
                    while source.recv(65536):
                        pass
        super()._pump(source, target)


def test_a_server_that_dies_amid_a_copy_is_reported_in_one_sentence(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as server, Swallowing(server.dsn) as path:
        monkeypatch.setenv(CREDENTIALS, path.url)
        running = start_command(serve(Account(100)), "sync", "--quiet", *TO_POSTGRES)
        wait_until(lambda: path.is_copying.is_set() or running.poll() is not None)
        server.kill()
        server.start()
        code, output = ended(running)

        assert_failed_kindly(code, output)
        assert path.is_copying.is_set()
        assert code == FAILED


@pytest.mark.rounds
def test_losing_the_network_during_a_load_loses_nothing(
    serve: Serve, warehouse: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(warehouse.dsn) as path:
        monkeypatch.setenv(CREDENTIALS, path.url)

        def take_away() -> None:
            path.silence()
            time.sleep(0.5)
            path.cut()

        assert_survives(serve, warehouse, take_away)


def assert_survives(serve: Serve, warehouse: Postgres, take_away: Callable[[], None]) -> None:
    """Take the server away at a random moment of a load: the next run makes the tables equal."""
    rounds, chance = rounds_and_chance(1)
    api = serve(Account(1_000, seed=chance.randrange(10**6)))
    for _ in range(rounds):
        running = start_command(api, "sync", "--quiet", *TO_POSTGRES)
        _wait_for_a_load(warehouse.dsn, running)
        time.sleep(chance.uniform(0, 0.7))
        take_away()
        assert_failed_kindly(*ended(running))

        api.account.clock.advance(timedelta(seconds=2))
        assert ended(start_command(api, "sync", "--quiet", *TO_POSTGRES)) == (0, "")
        assert warehouse.stored() == shown(api.account)
        api.account.change(500, seed=chance.randrange(10**6))
        api.account.clock.advance(timedelta(seconds=2))


def _wait_for_a_load(dsn: str, running: subprocess.Popen[str]) -> None:
    """Wait until a run has the lock and more than that one connection: it loads, or soon will."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    while running.poll() is None and ask(dsn, sessions)[0][0] < 3:
        time.sleep(0.01)


def assert_failed_kindly(code: int, output: str) -> None:
    """Assert that a run that lost its server had ended, or reports it in a sentence."""
    print(code, output)  # noqa: T201 - to see what a failure was like
    assert code in (0, 1)
    assert "Traceback" not in output
    assert PASSWORD not in output
    # The driver's library prints the server's own last words, if there were any.
    assert len([line for line in output.splitlines() if not line.startswith("FATAL")]) <= 2
    assert code == 0 or "run it again" in output


def holding(serve: Serve) -> tuple[Sandbox, subprocess.Popen[str]]:
    """Start a run that holds the lock until its sandbox answers, which it never does."""
    never = serve(Account(50), latency=1_000)
    return never, start_command(never, "sync", *TO_POSTGRES)


def _keys_held(warehouse: Postgres) -> int:
    """Count the locks: the first is that of a run, the second that of the one that waits."""
    # The server shows those in other tests' databases, too.
    return len(
        warehouse.ask(
            "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )
    )


def _wait_for_the_lock(warehouse: Postgres) -> None:
    wait_until(lambda: _keys_held(warehouse))
    time.sleep(0.1)


def test_a_lock_timeout_reports_the_holder_since_when_and_where(
    serve: Serve, warehouse: Postgres
) -> None:
    _, first = holding(serve)
    _wait_for_the_lock(warehouse)
    api = serve(Account(50))

    code, output = ended(start_command(api, "sync", "--lock-timeout", "0.5", *TO_POSTGRES))

    assert code == 5
    assert f"process {first.pid} on {os.uname().nodename[:12]}" in output
    assert re.search(r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", output)

    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert ended(start_command(api, "sync", "--quiet", *TO_POSTGRES)) == (0, "")
    assert warehouse.stored() == shown(api.account)


def test_a_run_that_waits_for_another_stops_at_a_signal(serve: Serve, warehouse: Postgres) -> None:
    _, first = holding(serve)
    _wait_for_the_lock(warehouse)
    second = start_command(serve(Account(50)), "sync", "--lock-timeout", "30", *TO_POSTGRES)
    wait_until(lambda: _keys_held(warehouse) == 2)

    assert_stops(second)
    assert_stops(first, signal.SIGTERM)


@pytest.mark.long
def test_a_sync_gets_in_between_two_windows_of_a_long_backfill(
    serve: Serve, warehouse: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With more workers, all pages may be begun before the first window is full.
    monkeypatch.setenv("SOURCES__UNIFY__WORKERS", "1")
    account = Account(500)
    api = serve(account)
    settings: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    sync(warehouse.pipeline(), **settings)
    account.change(100, seed=3)
    slow = serve(account, on_request=answers_once(lambda: _keys_held(warehouse) == 2))
    words = ("backfill", "--from", "2000-01-01", *TO_POSTGRES)
    several = {"SOURCES__UNIFY__PAGE_SIZE": "20"}
    long = start_command(slow, *words, window_rows=150, environment=several)
    wait_until(lambda: slow.requests)
    assert ended(start_command(api, "sync", *TO_POSTGRES))[0] == 0
    assert ended(long)[0] == 0

    # Each run writes its end while it has the lock.
    ends = warehouse.ask("SELECT kind FROM unify.unify_sync_runs ORDER BY finished_at")
    assert [kind for (kind,) in ends] == ["sync", "sync", "backfill"]
    account.clock.advance(timedelta(seconds=2))
    sync(warehouse.pipeline(), **settings)
    assert warehouse.stored() == shown(account)


@pytest.mark.parametrize("moment", ["reading", "loading"])
def test_a_run_that_lost_its_lock_does_not_commit_its_window(
    moment: str, serve: Serve, warehouse: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account(400))
    pipeline = warehouse.pipeline()

    def lose_the_lock(*_: Any) -> None:
        warehouse.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )

    step = "normalize" if moment == "reading" else "load"
    proceed = getattr(pipeline, step)

    def proceed_without_the_lock() -> Any:
        lose_the_lock()
        return proceed()

    monkeypatch.setattr(pipeline, step, proceed_without_the_lock)

    with pytest.raises(LoadFailed, match="lost its lock"):
        sync(pipeline, api_key=KEY, base_url=api.url)

    assert status(warehouse.pipeline()).cursor is None
    load(warehouse, api)
    assert warehouse.stored() == shown(api.account)


def test_the_lock_survives_a_short_idle_session_timeout(serve: Serve, warehouse: Postgres) -> None:
    api = serve(account(400), latency=0.5)
    ((name,),) = warehouse.ask("SELECT current_database()")
    warehouse.ask(f"ALTER DATABASE {name} SET idle_session_timeout = '1s'")

    sync(warehouse.pipeline(), api_key=KEY, base_url=api.url, page_size=50, workers=1)

    assert warehouse.stored() == shown(api.account)


def test_check_status_and_the_example_work_on_postgres(serve: Serve, warehouse: Postgres) -> None:
    api = serve(account())
    nothing = status(warehouse.pipeline())
    assert (nothing.rows, nothing.loads, nothing.cursor) == ({}, [], None)
    assert check(warehouse.pipeline(), api_key=KEY, base_url=serve(Account(5)).url)
    load(warehouse, api)

    result = status(warehouse.pipeline())

    assert result.rows["enrollments"] == 300
    assert result.cursor
    assert result.loads
    script = Path(__file__).parents[2] / "pipelines" / "ask_the_warehouse.py"
    text = script.read_text().replace('destination="duckdb"', 'destination="postgres"')
    ran = warm.run(("-c", text), os.environ)
    assert re.search(r"\d+ of +\d+ +[\d.]+ %  \S", ran.stdout)
