from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import dlt
import duckdb
import pytest
from conftest import KEY, rounds_and_chance, start_command
from destinations import DuckDB
from dlt.common.runtime.collector import NULL_COLLECTOR, NullCollector
from loaded import loaded
from patience import PATIENCE
from turns import FailsAfterAWindow, answers_once, is_queued_for, readers, wait_until
from warehouse import shown, stored

from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError, UnifyError
from unify_source.destinations.locks.turns import Turns
from unify_source.load.packages import cursor, row_counts, state_of
from unify_source.load.source import unify_source
from unify_source.runs.backfill import backfill
from unify_source.runs.report import Report
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Clock, Sandbox

FILE = "unify_gtm.duckdb"
LONG_AGO = "2000-01-01"
PAGE_SIZE = 50

start = partial(start_command, window_rows=2_000)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few thousand rows be many windows."""
    monkeypatch.setenv("SOURCES__UNIFY__WINDOW_ROWS", "400")


def opened() -> dlt.Pipeline:
    return open_pipeline("unify_gtm", "duckdb", "unify")


def reading() -> subprocess.Popen[str]:
    """Start a program that has the file open until it gets a line of input."""
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    reader = subprocess.Popen(
        [sys.executable, "-c", program, FILE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout
    reader.stdout.readline()
    return reader


def moment_later(api: Sandbox) -> None:
    """Let more time pass than the server's `Date`, in whole seconds, hides from a run."""
    api.account.clock.advance(timedelta(seconds=2))


def finished_loads(pipeline: dlt.Pipeline) -> int:
    with pipeline.sql_client() as client:
        loads = client.execute_sql("SELECT count(*) FROM unify._dlt_loads WHERE status = 0")
    return int(loads[0][0]) if loads else 0


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_backfill_fills_the_tables_in_windows_and_leaves_no_progress_behind(
    serve: Callable[..., Sandbox],
    newest_first: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    api = serve(Account(1_500))
    pipeline = opened()

    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 20, "workers": 2}
    backfill(pipeline, LONG_AGO, newest_first=newest_first, **given)

    assert stored(FILE) == shown(api.account)
    assert finished_loads(pipeline) > 2
    assert state_of(pipeline)["backfills"] == {}


def test_a_backfill_leaves_the_cursor_alone_and_the_next_sync_is_incremental(
    serve: Callable[..., Sandbox], warehouse_file: DuckDB
) -> None:
    api = loaded(warehouse_file, serve)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 20}
    pipeline = opened()
    pipeline.sync_destination()
    before = cursor(pipeline)
    assert before
    moment_later(api)
    api.account.change(50, seed=1)
    moment_later(api)

    backfill(pipeline, LONG_AGO, **given)

    assert cursor(pipeline) == before
    api.reset()
    sync(pipeline, **given)
    assert len(api.requests) < 10
    assert cursor(pipeline) != before
    assert stored(FILE) == shown(api.account)


def test_a_backfill_reloads_what_changed_without_moving_its_updated_at(
    serve: Callable[..., Sandbox], warehouse_file: DuckDB
) -> None:
    api = loaded(warehouse_file, serve)
    for row in api.account.rows():
        if row["reply_email_message"]:
            api.account.put({**row, "reply_email_message": None, "is_replied": False})
    expected = shown(api.account)
    assert not expected["reply_email_messages"]

    backfill(opened(), LONG_AGO, api_key=KEY, base_url=api.url)

    assert stored(FILE) == expected


def test_a_range_loads_what_was_updated_within_both_ends_included(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(600))
    rows = api.account.rows()
    first, last = rows[100]["updated_at"], rows[300]["updated_at"]

    backfill(opened(), first, last, api_key=KEY, base_url=api.url)

    expected = [r["id"] for r in rows if _at(first) <= _at(r["updated_at"]) <= _at(last)]
    assert [row[0] for row in stored(FILE)["enrollments"]] == sorted(expected)


def test_a_range_that_ends_with_a_date_loads_that_whole_day(serve: Callable[..., Sandbox]) -> None:
    api = serve(Account(600))
    rows = api.account.rows()
    day = rows[300]["updated_at"][:10]

    report = backfill(opened(), day, day, api_key=KEY, base_url=api.url)

    expected = [r["id"] for r in rows if _at(r["updated_at"]).isoformat().startswith(day)]
    assert report.enrollments == len(expected) > 0
    assert [row[0] for row in stored(FILE)["enrollments"]] == sorted(expected)


def test_a_range_in_the_future_loads_nothing_and_says_why(serve: Callable[..., Sandbox]) -> None:
    given: dict[str, Any] = {"api_key": KEY, "base_url": serve(Account(50)).url}

    to_come = backfill(opened(), "2100-01-01", "2100-12-31", **given)
    empty = backfill(opened(), LONG_AGO, LONG_AGO, **given)

    assert "lies in the future" in to_come.as_lines()[0]
    assert to_come.as_json()["is_in_future"] is True
    assert "Nothing was updated in that range" in empty.as_lines()[0]
    assert empty.as_json()["is_in_future"] is False
    assert "is_in_future" not in sync(opened(), **given).as_json()


def test_an_end_that_is_an_empty_variable_of_the_shell_is_refused_before_any_request(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(10))
    for words in ((), ("--plan",)):
        process = start(api, "backfill", "--from", LONG_AGO, "--to", "", *words)
        _, errors = process.communicate(timeout=PATIENCE)

        assert process.returncode == 2
        assert "--to is ''" in errors
    assert api.requests == []


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


@pytest.mark.long
@pytest.mark.parametrize(
    ("until", "newest_first"),
    [(None, False), ("2030-01-01", True)],
    ids=["oldest first", "newest first"],
)
def test_a_backfill_resumed_weeks_later_loads_what_moved_meanwhile_and_reports_it(
    serve: Callable[..., Sandbox],
    until: str | None,
    *,
    newest_first: bool,
) -> None:
    clock = Clock(datetime(2026, 6, 1, 12, tzinfo=timezone.utc))
    api = serve(Account(500, clock=clock))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 10, "workers": 1}
    pipeline = opened()
    pipeline.collector = FailsAfterAWindow(api)

    def fill(window_rows: int = 100) -> Report:
        return backfill(
            pipeline,
            LONG_AGO,
            until,
            newest_first=newest_first,
            window_rows=window_rows,
            **given,
        )

    for seed in range(2):
        with pytest.raises(UnifyError):
            fill()
        api.arm()
        clock.advance(timedelta(days=30))
        api.account.change(75, seed=seed)
        clock.advance(timedelta(seconds=1))
    pipeline.collector = NULL_COLLECTOR

    report = fill(10_000)

    assert stored(FILE) == shown(api.account)
    assert report.resumed_from
    assert "restart=True starts over" in report.as_lines()[1]
    assert state_of(pipeline)["backfills"] == {}
    assert fill(10_000).resumed_from is None


@pytest.mark.long
def test_a_backfill_of_some_tables_loads_no_other_and_goes_on_apart_from_one_of_all(
    serve: Callable[..., Sandbox],
) -> None:
    api, pipeline = serve(Account(1_200)), opened()
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": PAGE_SIZE}
    only = ["people", "reply_email_messages", "users"]
    pipeline.collector = FailsAfterAWindow(api)
    with pytest.raises(UnifyError):
        backfill(pipeline, LONG_AGO, "2030-01-01", only=only, **given)
    pipeline.collector = NULL_COLLECTOR
    api.arm()

    rest = backfill(pipeline, LONG_AGO, "2030-01-01", only=only, **given)
    some = row_counts(pipeline)
    whole = backfill(pipeline, LONG_AGO, "2030-01-01", **given)

    assert rest.resumed_from
    assert {name for name, count in some.items() if count} == {*only}
    assert rest.rows_by_table.keys() <= {*only}
    assert whole.resumed_from is None
    assert stored(FILE) == shown(api.account)
    assert cursor(pipeline) is None


def test_a_table_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="only names the table 'persons'"):
        backfill(opened(), LONG_AGO, only=["persons"], api_key=KEY)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="later than"):
        backfill(opened(), "2026-02-01", "2026-01-01", api_key=KEY)


@pytest.mark.rounds
def test_a_backfill_killed_at_any_moment_and_restarted_ends_equal_and_loses_one_window(
    serve: Callable[..., Sandbox],
) -> None:
    kills, chance = rounds_and_chance(3)
    api = serve(Account(1_500 * kills), latency=0.005)
    words = ("backfill", "--from", LONG_AGO, "--to", "2030-01-01")
    lost = []
    for _ in range(kills):
        asked, loaded = len(api.requests), rows_loaded()
        process = start(api, *words, "--quiet", window_rows=500)
        while len(api.requests) == asked and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        lost.append(len(api.requests) - asked - (rows_loaded() - loaded) / PAGE_SIZE)

    asked, loaded, rows = len(api.requests), rows_loaded(), api.account.rows()
    last = start(api, *words, "--json", window_rows=500)
    output, error = last.communicate(timeout=PATIENCE)

    assert last.returncode == 0, error
    assert stored(FILE) == shown(api.account)
    print("pages that each kill lost:", sorted(lost))  # noqa: T201
    # The rows of a window are an estimate, and most of the next one is read ahead.
    assert max(lost) <= 4 * 500 / PAGE_SIZE
    since = json.loads(output)["resumed_from"] or ""
    left = sum(str(row["updated_at"]) >= since for row in rows)
    # A kill may come after the rows of a window, and before the state. If the last one came after
    # the end, this is a new backfill.
    assert loaded == len(rows) or loaded + left - len(rows) <= 4 * 500
    # A window this small costs three requests beyond its pages: a look before, and one after.
    assert len(api.requests) - asked <= 1.5 * left / PAGE_SIZE + 20


def rows_loaded() -> int:
    """Return how many enrollments the file holds."""
    with duckdb.connect(FILE) as connection:
        tables = connection.execute("FROM duckdb_tables() WHERE table_name = 'enrollments'")
        if not tables.fetchall():
            return 0
        ((rows,),) = connection.execute("SELECT count(*) FROM unify.enrollments").fetchall()
        return int(rows)


def test_an_interrupted_backfill_stops_before_its_window_ends_and_says_how_to_resume(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(20_000), latency=0.05)
    process = start(api, "backfill", "--from", LONG_AGO)
    wait_until(lambda: len(api.requests) > 30)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)

    assert len(api.requests) < 200
    assert process.returncode == 1
    assert "resumes from here" in errors
    assert "Traceback" not in errors


def test_a_sync_runs_between_two_windows_of_a_long_backfill_and_both_end_equal(
    serve: Callable[..., Sandbox],
) -> None:
    account = Account(1_500)
    api = serve(account)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "window_rows": 10_000}
    sync(opened(), **given)
    account.change(200, seed=3)
    slow = serve(account, on_request=answers_once(lambda: is_queued_for(FILE)))
    long = start(slow, "backfill", "--from", LONG_AGO, window_rows=400)
    wait_until(lambda: slow.requests)
    short = start(api, "sync")
    _, short_errors = short.communicate(timeout=PATIENCE)
    _, long_errors = long.communicate(timeout=PATIENCE)

    assert short.returncode == 0, short_errors
    assert long.returncode == 0, long_errors
    # Each run writes its end while it has the lock.
    with duckdb.connect(FILE) as connection:
        ends = connection.execute("SELECT kind FROM unify.unify_sync_runs ORDER BY finished_at")
        assert ends.fetchall() == [("sync",), ("sync",), ("backfill",)]
    sync(opened(), **given)
    assert stored(FILE) == shown(account)


@pytest.mark.long
def test_rows_that_a_backfill_read_ahead_before_it_yielded_revert_no_newer_ones(
    serve: Callable[..., Sandbox],
) -> None:
    account = Account(1_500)
    api = serve(account)
    slow = serve(account, on_request=answers_once(lambda: is_queued_for(FILE)))
    long = start(slow, "backfill", "--from", LONG_AGO, window_rows=400)
    wait_until(lambda: slow.requests)
    pipeline = opened()

    with Turns(pipeline, 60).turn():
        is_still_running = long.poll() is None
        account.change(1_500, seed=4)
        moment_later(api)
        pipeline.run(unify_source(api_key=KEY, base_url=api.url))
    _, errors = long.communicate(timeout=PATIENCE)

    assert is_still_running
    assert long.returncode == 0, errors
    assert stored(FILE) == shown(account)


class FullDisk(NullCollector):
    """Fails as soon as rows are written."""

    def update(self, name: str, *_: Any, **__: Any) -> None:
        if name == "enrollments":
            raise OSError(28, "No space left on device")


def test_a_first_load_that_fails_after_its_pages_were_read_leaves_no_thread_behind(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(3_000))
    pipeline = dlt.pipeline(
        "unify_gtm", destination="duckdb", dataset_name="unify", progress=FullDisk()
    )

    with pytest.raises(UnifyError, match="No space left"):
        sync(pipeline, api_key=KEY, base_url=api.url)

    wait_until(lambda: not readers())


@pytest.mark.long
def test_a_backfill_that_yielded_waits_for_its_next_turn_as_long_as_it_takes(
    serve: Callable[..., Sandbox],
) -> None:
    hold = threading.Event()
    account = Account(1_500)
    api = serve(account, on_request=answers_once(lambda: is_queued_for(FILE)))
    slow = serve(account, on_request=lambda _: hold.wait(60))
    long = start(api, "backfill", "--from", LONG_AGO, "--lock-timeout", "0.2", window_rows=400)
    wait_until(lambda: api.requests)
    other = start(slow, "sync", "--lock-timeout", "100")
    wait_until(lambda: slow.requests)
    wait_until(lambda: is_queued_for(FILE))
    time.sleep(0.5)
    is_still_running = long.poll() is None
    hold.set()
    _, long_errors = long.communicate(timeout=PATIENCE)
    _, other_errors = other.communicate(timeout=PATIENCE)

    assert is_still_running, long_errors
    assert long.returncode == 0, long_errors
    assert other.returncode == 0, other_errors
    assert stored(FILE) == shown(account)


def test_a_program_that_opens_the_file_between_two_turns_is_waited_for_as_long_as_it_takes() -> (
    None
):
    turns = Turns(opened(), timeout=0.3)
    with turns.turn():
        pass
    reader = reading()
    threading.Timer(0.6, reader.communicate, args=["\n"]).start()

    # Twice the timeout, which would be an error.
    with turns.turn():
        pass


def test_a_run_that_exceeds_the_lock_timeout_names_the_holder(
    serve: Callable[..., Sandbox],
) -> None:
    hold = threading.Event()
    api = serve(Account(50), on_request=lambda _: hold.wait(60))
    first = start(api, "sync")
    wait_until(lambda: api.requests)

    second = start(api, "sync", "--lock-timeout", "2.1")
    _, errors = second.communicate(timeout=PATIENCE)
    hold.set()
    first.communicate(timeout=PATIENCE)

    assert second.returncode == 5
    meanwhile, at_last = errors.split("Error: ")
    holder = rf"process {first.pid} on .+ has held it since 20"
    assert re.match(rf"Waiting: the dataset is in use \({holder}", meanwhile)
    assert re.match(f"The dataset is in use: {holder}", at_last)
    assert first.returncode == 0


def test_an_open_reader_is_waited_for_and_named(
    serve: Callable[..., Sandbox], warehouse_file: DuckDB
) -> None:
    api = loaded(warehouse_file, serve)
    reader = reading()

    with pytest.raises(UnifyError, match=rf"PID {reader.pid}\b.* has held it, for longer"):
        sync(opened(), api_key=KEY, base_url=api.url, lock_timeout=0.3)
    threading.Timer(0.5, reader.communicate, args=["\n"]).start()

    assert sync(opened(), api_key=KEY, base_url=api.url, lock_timeout=100).enrollments == 0


def test_the_lookback_is_not_read_again_between_the_windows_of_one_run(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(1_600))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 20}

    report = sync(opened(), lookback=timedelta(days=300), **given)

    # Read again with each of the four windows, it would be four times the list and more.
    assert report.requests < 2 * 1_600 / 20
    assert stored(FILE) == shown(api.account)


def test_a_terminal_shows_rows_windows_and_the_time_left(serve: Callable[..., Sandbox]) -> None:
    api = serve(Account(1_600))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "unify_source", "backfill", "--from", LONG_AGO],
        env={
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": "200",
            "UNIFY_API_KEY": KEY,
            "SOURCES__UNIFY__BASE_URL": api.url,
            "SOURCES__UNIFY__PAGE_SIZE": "20",
            "SOURCES__UNIFY__WORKERS": "1",
        },
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    screen = b""
    # Linux answers with an error once nobody holds the other end.
    with suppress(OSError):
        while more := os.read(ours, 65536):
            screen += more
    os.close(ours)

    assert process.wait() == 0, screen
    shows = rb"[\d,]+ rows read, [\d,]+ rows/s, \d+ windows done, \d+% of the range"
    assert re.search(shows, screen), screen


@pytest.mark.long
def test_a_first_backfill_until_a_day_to_come_does_not_keep_what_vanishes_later(
    serve: Callable[..., Sandbox],
) -> None:
    api = serve(Account(300))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    backfill(opened(), LONG_AGO, "2100-01-01", **given)
    api.account.change(200, seed=5)
    moment_later(api)

    sync(opened(), **given)

    assert stored(FILE) == shown(api.account)
