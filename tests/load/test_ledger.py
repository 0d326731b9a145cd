"""Every run has a row in the ledger, with what it did and how it ended."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta
from typing import Any

import pytest
from conftest import KEY, start_command
from destinations import Destination, DuckDB, Postgres
from lakes import Delta, DeltaOnS3, Parquet
from loaded import loaded
from standing import Serve, account, change, load
from turns import FailsAfterAWindow, wait_until
from warehouse import shown
from warehouses import ClickHouse

from unify_source import UnifyError, backfill, sync, unify_source, verify
from unify_source.common.errors import KeyRefused
from unify_source.common.resources import LEDGER, QUARANTINE
from unify_source.common.settings import PARQUET, checked_settings
from unify_source.load.ledger.entry import SYNC, Entry
from unify_source.load.ledger.ledger import Ledger
from unify_source.load.packages import cursor
from unify_source.sandbox import Account, Fault

Run = dict[str, Any]

at_once = pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)
on_duckdb = pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)


def ledger(warehouse: Destination) -> list[Run]:
    """Return the rows of the ledger, in the order in which the runs began."""
    names = LEDGER.schema().names
    rows = [dict(zip(names, row, strict=True)) for row in warehouse.reads(LEDGER.name, names)]
    assert len({row["id"] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: str(row["started_at"]))


def outcomes(warehouse: Destination) -> list[tuple[str, str, str | None]]:
    return [(row["kind"], row["outcome"], row["error"]) for row in ledger(warehouse)]


def by_table(run: Run) -> dict[str, int]:
    counts: dict[str, int] = json.loads(run["rows_by_table"])
    assert sum(counts.values()) == run["rows_loaded"]
    return counts


@pytest.mark.long
@at_once
def test_a_run_has_a_row_although_dlt_adds_columns_of_its_own(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account(20))
    for column in ("ID", "LOAD_ID"):
        monkeypatch.setenv(f"NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_{column}", "true")
    load(warehouse, api)
    change(api.account, 5)
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=api.url))
    load(warehouse, api)

    kinds = [("sync", "succeeded"), ("dlt", "succeeded"), ("sync", "succeeded")]
    assert [run[:2] for run in outcomes(warehouse)] == kinds
    assert warehouse.stored() == shown(api.account)
    assert len(set(warehouse.reads(LEDGER.name, ["_dlt_id", "_dlt_load_id"]))) == len(kinds)


def test_a_sync_has_a_row_whether_it_loads_something_or_nothing_or_fails(
    serve: Serve, warehouse: Destination
) -> None:
    unreadable: set[str] = set()
    api = serve(
        loaded(warehouse, serve).account,
        reshape=lambda row: {**row, "is_paused": "no"} if row["id"] in unreadable else row,
    )
    expected = {name for name, rows in shown(api.account).items() if rows}
    api.account.clock.advance(timedelta(seconds=1))
    load(warehouse, api)
    with pytest.raises(KeyRefused):
        sync(warehouse.pipeline(), api_key="another", base_url=api.url)
    change(api.account, 20)
    unreadable.add(max(api.account.rows(), key=lambda row: str(row["updated_at"]))["id"])
    api.arm(Fault("429", times=1), Fault("500", times=1, after=1))
    report = load(warehouse, api)

    assert outcomes(warehouse) == [
        ("sync", "succeeded", None),
        ("sync", "succeeded", None),
        ("sync", "failed", "KeyRefused"),
        ("sync", "succeeded", None),
    ]
    first, idle, failed, last = ledger(warehouse)
    assert set(by_table(first)) == expected
    assert by_table(first)["enrollments"] == 300
    assert (first["cursor_before"], first["window_from"], first["late_rows"]) == (None,) * 3
    assert (by_table(idle), idle["late_rows"]) == ({}, 0)
    assert idle["cursor_before"] == idle["cursor_after"] == first["cursor_after"]
    assert idle["window_from"] == idle["cursor_before"] - timedelta(minutes=10)
    assert (failed["window_to"], failed["requests"]) == (None, 1)
    assert (last["cursor_before"], last["cursor_after"]) == (idle["cursor_after"], report.cursor)
    assert by_table(last)["enrollments"] == report.enrollments
    assert by_table(last)[QUARANTINE.name] == last["quarantined"] == 1
    assert (last["requests"], last["retries"], last["rate_limited"]) == (report.requests, 2, 1)
    assert (last["window_to"], last["lookback_seconds"]) == (api.account.clock.now(), 600)
    assert all(row["finished_at"] >= row["started_at"] for row in ledger(warehouse))


@on_duckdb
def test_a_backfill_and_a_verify_have_rows_with_their_range_and_verdict(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    reached = cursor(warehouse.pipeline())
    verify(warehouse.pipeline(), **given)
    for row in api.account.rows()[:3]:
        api.account.put({**row, "is_paused": not row["is_paused"]})  # Without moving `updated_at`.
    verify(warehouse.pipeline(), **given)
    done = backfill(warehouse.pipeline(), "2000-01-01", window_rows=100, **given)
    verify(warehouse.pipeline(), repair=True, **given)

    _, equal, different, filled, repaired = ledger(warehouse)

    assert [(run["kind"], run["outcome"]) for run in (equal, different, filled, repaired)] == [
        ("verify", "succeeded"),
        ("verify", "succeeded"),
        ("backfill", "succeeded"),
        ("repair", "succeeded"),
    ]
    assert [(run["verdict"], run["differences"]) for run in (equal, different, repaired)] == [
        ("equal", 0),
        ("different", 3),
        ("equal", 0),
    ]
    assert all(run["requests"] > 0 for run in (equal, different, filled, repaired))
    assert by_table(filled)["enrollments"] == done.enrollments >= len(api.account)
    assert filled["window_from"] == datetime.fromisoformat("2000-01-01T00:00:00+00:00")
    assert filled["cursor_before"] == filled["cursor_after"] == reached


@pytest.mark.long
@on_duckdb
def test_three_lines_of_dlt_have_a_row_and_a_refresh_keeps_the_others(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(60))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    pipeline = warehouse.pipeline()
    pipeline.run(unify_source(**given))
    pipeline.run(unify_source(**given).with_resources("people"))
    api.account.clock.advance(timedelta(seconds=1))
    pipeline.run(unify_source(**given))
    pipeline.run(unify_source(**given), refresh="drop_data")

    plain, idle, refreshed = ledger(warehouse)

    assert (plain["kind"], by_table(plain)["enrollments"]) == ("dlt", 60)
    assert (refreshed["kind"], by_table(refreshed)["enrollments"]) == ("refresh", 60)
    assert (idle["kind"], by_table(idle)) == ("dlt", {})
    assert [run["outcome"] for run in (plain, idle, refreshed)] == ["succeeded"] * 3
    assert plain["cursor_after"] == refreshed["cursor_after"]


@at_once
def test_a_run_that_is_killed_is_noted_by_the_next(serve: Serve, warehouse: Destination) -> None:
    api = loaded(warehouse, serve)
    silent = serve(api.account, faults=[Fault("slow", value=1_000)])
    process = start_command(silent, "sync", "--destination", warehouse.dlt_name)
    wait_until(lambda: silent.requests)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    load(warehouse, api)

    assert [outcome for _, outcome, _ in outcomes(warehouse)] == [
        "succeeded",
        "killed",
        "succeeded",
    ]
    assert ledger(warehouse)[1]["finished_at"] is None


@pytest.mark.parametrize(
    "warehouse",
    [Parquet, *(pytest.param(kind, marks=kind.lane) for kind in (Delta, DeltaOnS3, ClickHouse))],
    indirect=True,
)
def test_runs_that_are_killed_in_turn_are_all_noted_by_the_next_where_no_row_is_written_at_once(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    silent = serve(api.account, faults=[Fault("slow", value=1_000)])
    for command in (("sync",), ("backfill", "--from", "2000-01-01")):
        silent.reset()
        process = start_command(silent, *command, "--destination", warehouse.dlt_name)
        wait_until(lambda: silent.requests)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    change(api.account, 5)
    load(warehouse, api)
    load(warehouse, api)

    kinds = ["sync", "sync", "backfill", "sync", "sync"]
    ends = ["succeeded", "killed", "killed", "succeeded", "succeeded"]
    assert outcomes(warehouse) == [(kind, end, None) for kind, end in zip(kinds, ends, strict=True)]
    assert ledger(warehouse)[1]["finished_at"] is None
    assert warehouse.stored() == shown(api.account)


@pytest.mark.parametrize(
    "warehouse",
    [Parquet, *(pytest.param(kind, marks=kind.lane) for kind in (Delta, ClickHouse))],
    indirect=True,
)
def test_a_run_that_is_killed_is_noted_by_the_next_of_another_account(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(Account(20))
    for name in ("emea", "apac"):
        load(warehouse, api, account=name)
    silent = serve(api.account, faults=[Fault("slow", value=1_000)])
    words = ("sync", "--account", "emea", "--destination", warehouse.dlt_name)
    process = start_command(silent, *words)
    wait_until(lambda: silent.requests)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    change(api.account, 5)
    load(warehouse, api, account="apac")

    rows = warehouse.reads(LEDGER.name, ["account", "started_at", "outcome"])
    runs = [(name, outcome) for name, _, outcome in sorted(rows, key=lambda row: str(row[1]))]
    assert runs == [
        ("emea", "succeeded"),
        ("apac", "succeeded"),
        ("emea", "killed"),
        ("apac", "succeeded"),
    ]


@pytest.mark.parametrize("warehouse", [Parquet], indirect=True)
def test_what_a_dead_run_left_counts_unless_it_was_loaded_or_is_damaged(
    serve: Serve, warehouse: Destination
) -> None:
    load(warehouse, serve(Account(20)))
    settings = checked_settings({"api_key": KEY})
    of_another = checked_settings({"api_key": KEY, "account": "emea"})
    loaded_before, killed, other, heir = (
        Entry(SYNC, "unify_gtm", how) for how in (settings, settings, of_another, settings)
    )
    loaded_before.id = ledger(warehouse)[0]["id"]
    left = [entry.inherit([]) for entry in (loaded_before, killed, other)]

    heir.inherit([*left, *left, "", "{", "[{}]", "[7]", "null"])
    begun = Ledger(warehouse.pipeline(), PARQUET, heir)
    with begun.open():
        begun.begin()

    # A dataset has accounts in all of its rows or in none.
    assert [(row["id"], row["outcome"]) for row in heir.killed] == [(killed.id, "killed")]


@at_once
def test_a_run_that_fails_midway_counts_the_windows_that_it_committed(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__UNIFY__WINDOW_ROWS", "100")
    api = serve(Account(600))
    failing = warehouse.pipeline()
    failing.collector = FailsAfterAWindow(api)
    with pytest.raises(UnifyError):
        sync(failing, api_key=KEY, base_url=api.url, page_size=20, workers=1)

    [run] = ledger(warehouse)

    assert (run["outcome"], run["error"]) == ("failed", "RequestRefused")
    assert by_table(run)["enrollments"] == len(warehouse.keys("enrollments")) < 600
    assert run["cursor_after"] == max(
        at for (at,) in warehouse.reads("enrollments", ["updated_at"])
    )


@at_once
def test_a_waiting_run_counts_as_alive_and_one_believed_dead_reports_its_end(
    serve: Serve, warehouse: Destination
) -> None:
    loaded(warehouse, serve)
    pipeline = warehouse.pipeline()

    def begun() -> Ledger:
        return Ledger(
            pipeline, "delta", Entry(SYNC, "unify_gtm", checked_settings({"api_key": KEY}))
        )

    def seen() -> list[str]:
        return [run["outcome"] for run in ledger(warehouse)[1:]]

    one, other, third = begun(), begun(), begun()
    with one.open(), other.open(), third.open():
        one.begin()
        one.go_on(waiting=True)
        other.begin()
        assert seen() == ["waiting", "running"]
        third.begin()
        assert seen() == ["waiting", "killed", "running"]
    assert seen() == ["succeeded"] * 3


@on_duckdb
def test_no_run_fails_for_its_ledger(
    serve: Serve, warehouse: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    api = loaded(warehouse, serve)
    warehouse.change(f"DROP TABLE unify.{LEDGER.name}")
    change(api.account, 5)

    load(warehouse, api)

    assert warehouse.stored() == shown(api.account)
    # The clock of this account stands still, which is a warning of its own.
    [message] = [each for each in caplog.messages if "clock" not in each]
    assert message.startswith(f"The run is not in {LEDGER.name}: ")
