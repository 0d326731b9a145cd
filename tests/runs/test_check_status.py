"""`check` before the first load and `status` after any: sentences, or one JSON object."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dlt
import duckdb
import pytest
from commands import command, only_json
from conftest import KEY
from destinations import DuckDB, opened
from hostile import DAMAGED
from listing import instant
from loaded import loaded
from warehouse import stored

from unify_source.common.errors import ConfigurationError, KeyRefused, UnifyError
from unify_source.common.resources import QUARANTINE
from unify_source.runs.check import check
from unify_source.runs.status import status
from unify_source.runs.sync import sync
from unify_source.sandbox import DRIFTS, Account, Clock, Sandbox

Serve = Callable[..., Sandbox]

FILE = "unify_gtm.duckdb"


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    sandbox = serve(Account(300))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return sandbox


@pytest.fixture
def filled(
    serve: Serve, home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """Give the API of an account that has been loaded."""
    with opened(DuckDB, home, request) as warehouse:
        sandbox = loaded(warehouse, serve)
        monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
        monkeypatch.setenv("UNIFY_API_KEY", KEY)
        yield sandbox


def newest(api: Sandbox) -> datetime:
    return max(map(instant, api.account.rows()))


def test_check_reports_that_key_clock_and_destination_are_in_order(api: Sandbox) -> None:
    ran = command("check")

    assert (ran.returncode, ran.stderr) == (0, "")
    key, clock, destination = ran.stdout.splitlines()
    assert key == f"The key is valid at {api.url}."
    assert re.fullmatch(r"This machine's clock and the server's differ by \d\d? s\.", clock)
    assert destination == "duckdb can be written, dataset unify."
    assert [dict(request.query)["limit"] for request in api.requests] == ["1"]


def test_check_with_json_is_one_object(api: Sandbox) -> None:
    result = only_json(command("check", "--json"))

    assert 0 <= result.pop("clock_off_by_seconds") < 60
    assert result == {
        "key": "valid",
        "base_url": api.url,
        "destination": "duckdb",
        "dataset": "unify",
        "writable": True,
    }


def test_check_refuses_a_wrong_key_with_2(api: Sandbox) -> None:
    ran = command("check", UNIFY_API_KEY="another")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("Error: The API refused the key (HTTP 401")
    assert len(api.requests) == 1


@pytest.mark.usefixtures("home")
def test_check_without_a_key_asks_for_one() -> None:
    ran = command("check")

    assert ran.returncode == 2
    assert "UNIFY_API_KEY" in ran.stderr


@pytest.mark.parametrize(("hours", "side"), [(3, "behind"), (-3, "ahead of")])
def test_check_refuses_a_clock_that_is_off(
    hours: int, side: str, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    clock = Clock(datetime.now(timezone.utc) + timedelta(hours=hours, seconds=30 * (hours > 0)))
    api = serve(Account(5, clock=clock))

    with pytest.raises(ConfigurationError) as caught:
        check(pipeline, api_key=KEY, base_url=api.url)

    assert f"is 3 hours {side} the server's" in caught.value.what


def test_check_reports_a_destination_that_cannot_be_written(
    api: Sandbox, pipeline: dlt.Pipeline, home: Path
) -> None:
    (home / FILE).write_bytes(DAMAGED)

    with pytest.raises(UnifyError) as caught:
        check(pipeline)

    assert caught.value.exit_code in (1, 2)
    assert len(api.requests) == 1


def test_check_reports_a_missing_api(pipeline: dlt.Pipeline) -> None:
    with socket.socket() as taken:
        # Bound, so that nobody else gets the port, but not listening.
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(UnifyError, match=r"no connection to the API.*127\.0\.0\.1"):
            check(pipeline, api_key=KEY, base_url=closed, retry_budget=0.3)


def test_check_leaves_what_has_been_loaded(api: Sandbox, pipeline: dlt.Pipeline) -> None:
    sync(pipeline)
    before = stored(FILE)
    assert before["enrollments"]

    check(pipeline)
    with pytest.raises(KeyRefused):
        check(pipeline, api_key="another")

    assert stored(FILE) == before
    assert status(pipeline).rows["enrollments"] == len(api.account)


@pytest.mark.usefixtures("home")
def test_status_before_the_first_load_says_what_to_do() -> None:
    ran = command("status")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Nothing has been loaded yet" in ran.stdout
    assert "unify-source sync" in ran.stdout
    result = only_json(command("status", "--json"))
    assert (result["cursor"], result["rows"], result["loads"]) == (None, {}, [])


def test_status_shows_cursor_loads_rows_and_freshness(filled: Sandbox) -> None:
    requests = len(filled.requests)
    tables = stored(FILE)

    ran = command("status")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"Data is current to {newest(filled).isoformat()}, " in ran.stdout
    for name, rows in tables.items():
        line = next(line for line in ran.stdout.splitlines() if f" {name} " in line)
        assert f" {len(rows):,} " in line
    assert len(filled.requests) == requests


def test_status_with_json_is_one_object(filled: Sandbox) -> None:
    result = only_json(command("status", "--json"))

    tables = stored(FILE)
    assert result["rows"] == {**{t: len(rows) for t, rows in tables.items()}, QUARANTINE.name: 0}
    assert result["rows"]["enrollments"] == len(filled.account)
    assert result["cursor"] == newest(filled).isoformat()
    behind = (datetime.now(timezone.utc) - newest(filled)).total_seconds()
    assert behind - 30 < result["behind_seconds"] <= behind
    assert (result["pipeline"], result["destination"], result["dataset"]) == (
        "unify_gtm",
        "duckdb",
        "unify",
    )
    assert result["quarantined"] == 0
    with duckdb.connect(FILE, read_only=True) as connection:
        loads = connection.execute("SELECT load_id FROM unify._dlt_loads").fetchall()
    assert {(load["load_id"],) for load in result["loads"]} == set(loads)
    assert {load["state"] for load in result["loads"]} == {"loaded"}


def test_status_shows_the_last_runs_and_how_the_last_one_failed(
    api: Sandbox, pipeline: dlt.Pipeline
) -> None:
    done = sync(pipeline)
    with pytest.raises(KeyRefused):
        sync(pipeline, api_key="another")

    failed, first = status(pipeline).as_json()["runs"]
    ran = command("status")

    assert (failed["outcome"], first["outcome"]) == ("failed", "succeeded")
    assert (failed["requests"], first["requests"]) == (1, done.requests)
    assert len(api.requests) == done.requests + 1
    assert "The last run, a sync, failed: KeyRefused." in ran.stdout
    grid = ran.stdout.partition("Last runs")[2].splitlines()
    assert ["KeyRefused" in line for line in grid if " sync " in line] == [True, False]


def test_status_shows_rows_in_quarantine(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(Account(500), reshape=DRIFTS["changed-types"])
    report = sync(pipeline, api_key=KEY, base_url=api.url)
    assert report.quarantined

    result = status(pipeline)

    assert result.rows[QUARANTINE.name] == result.as_json()["quarantined"] == report.quarantined
    assert any(f"{report.quarantined} rows are in quarantine" in line for line in result.as_lines())


def test_status_of_an_empty_account_says_so(pipeline: dlt.Pipeline) -> None:
    with Sandbox(Account(0), key=KEY) as api:
        sync(pipeline, api_key=KEY, base_url=api.url)

    result = status(pipeline)

    assert result.cursor is None
    assert set(result.rows.values()) == {0}
    assert "No enrollment has been loaded yet." in result.as_lines()
