"""A plan is close to the truth, takes few requests on any account, and loads nothing."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from accounts import BURST, START, account, begun_with, in_groups, with_a_burst
from click.testing import CliRunner
from conftest import KEY, start_command
from patience import PATIENCE
from turns import wait_until

from unify_source.cli import app as cli
from unify_source.common.errors import ConfigurationError, KeyRefused
from unify_source.runs.plan import Plan, plan
from unify_source.sandbox import Account, Fault, Sandbox


def planned(
    api: Sandbox, start: str = "2000-01-01", end: str | None = None, **options: Any
) -> Plan:
    return plan(start, end, api_key=KEY, base_url=api.url, **options)


@pytest.mark.long
@pytest.mark.parametrize(
    ("order", "at_least", "at_most"),
    [("updated", 0.6, 1.6), ("updated_desc", 0.6, 1.6), ("created", 0.3, 2.5), ("id", 0.3, 2.5)],
)
@pytest.mark.parametrize(
    "filled",
    [
        partial(account, 8_000),
        partial(account, 8_000, 0.9),
        partial(in_groups, 8_000, 60),
        partial(in_groups, 8_000, 400),
    ],
    ids=["evenly", "crowded", "groups of 60", "groups of 400"],
)
def test_a_plan_is_about_right_and_takes_few_requests(
    filled: Callable[[], Account], order: str, at_least: float, at_most: float
) -> None:
    with Sandbox(filled(), key=KEY, order=order) as api:
        rows = planned(api).rows
        requests = len(api.requests)

    assert at_least * 8_000 <= rows <= at_most * 8_000
    assert requests <= 300


def test_a_burst_is_counted_in_part_and_not_extrapolated() -> None:
    with Sandbox(begun_with(2_400, 8_000), key=KEY) as api:
        assert 5_200 <= planned(api).rows <= 8_000


@pytest.mark.parametrize("order", ["updated", "updated_desc"])
@pytest.mark.parametrize("singles", [0, 1, 60, 80])
def test_if_a_burst_is_only_partly_counted_the_plan_says_at_least(singles: int, order: str) -> None:
    with Sandbox(with_a_burst(singles, 2_000), key=KEY, order=order) as api:
        plan_of_day = planned(api, "2026-05-31")

    result = plan_of_day.as_json()
    bursts = [part["is_lower_bound"] for part in result["parts"]]
    assert bursts == [part["from"] <= BURST <= part["to"] for part in result["parts"]]
    assert result["is_lower_bound"]
    lines = plan_of_day.as_lines()
    assert f": at least about {plan_of_day.rows:,} enrollments" in lines[0]
    assert [" at least about " in line for line in lines if line.startswith("  ")] == bursts


@pytest.mark.parametrize("burst", [0, 2, 60, 90])
def test_a_burst_within_the_limit_is_counted_exactly(burst: int) -> None:
    with Sandbox(with_a_burst(60, burst), key=KEY) as api:
        plan_of_day = planned(api, "2026-05-31")

    assert not plan_of_day.as_json()["is_lower_bound"]
    assert not [line for line in plan_of_day.as_lines() if "at least" in line]


@pytest.mark.parametrize("group", [1, 60, 400])
def test_rows_that_all_come_in_groups_are_no_bursts(group: int) -> None:
    with Sandbox(in_groups(8_000, group), key=KEY) as api:
        assert not planned(api).as_json()["is_lower_bound"]


def test_a_range_of_few_rows_is_counted_and_its_parts_show_where_they_are() -> None:
    few = account(300)
    with Sandbox(few, key=KEY) as api:
        whole = planned(api)
        day = planned(api, "2026-05-31T12:00:00Z", START.isoformat())
        whole_day = planned(api, "2026-05-31", "2026-05-31")
        nothing = planned(api, "2026-05-31T00:00:00Z", "2026-05-31T00:00:00Z")

    updated = [row["updated_at"] for row in few.rows()]
    assert whole.rows == len(few)
    assert day.rows == sum(at >= "2026-05-31T12:00:00" for at in updated)
    assert whole_day.rows == sum(at.startswith("2026-05-31") for at in updated) > 0
    assert nothing.rows == 0
    assert all(one[1] == other[0] for one, other in zip(day.parts, day.parts[1:], strict=False))
    assert (day.parts[0][0], day.parts[-1][1]) == (START - timedelta(days=1), START)


@pytest.mark.parametrize("end", ["0010-01-01", "1969-12-31", "1971-01-01"])
def test_a_range_that_begins_before_the_account_is_planned_like_any_other(end: str) -> None:
    with Sandbox(account(300), key=KEY) as api:
        assert planned(api, "0001-01-01", end).rows == 0


def test_one_window_is_singular_and_several_are_plural() -> None:
    with Sandbox(account(300), key=KEY) as api:
        one = planned(api).as_lines()[1]
        three = planned(api, window_rows=100).as_lines()[1]

    assert one.startswith("In 1 window, which takes about ")
    assert three.startswith("In 3 windows, which take about ")


@pytest.mark.parametrize("end", [None, "2101-12-31"])
def test_a_range_in_the_future_is_reported_after_one_request(end: str | None) -> None:
    with Sandbox(account(300), key=KEY) as api:
        future = planned(api, "2100-01-01", end)
        assert len(api.requests) == 1
        part_of_it = planned(api, "2000-01-01", "2101-12-31")

    lines = future.as_lines()
    assert "lies in the future" in lines[0]
    assert lines[0].startswith("From 2100-01-01T00:00:00+00:00")
    assert lines[-1] == "Nothing was loaded."
    assert future.rows == 0
    assert future.as_json()["is_in_future"]
    assert not part_of_it.as_json()["is_in_future"]
    assert part_of_it.rows == 300


def test_a_plan_respects_filters_and_the_request_budget() -> None:
    crowd = account(8_000)
    sequence = crowd.rows()[0]["sequence"]["id"]
    rows = sum(row["sequence"]["id"] == sequence for row in crowd.rows())

    with Sandbox(crowd, key=KEY) as api:
        assert 0.7 * rows <= planned(api, sequence_id=sequence).rows <= 1.3 * rows
        slow = planned(api, requests_per_5min=1_000)

    assert slow.seconds >= slow.rows / 100 * 300 / 1_000


def test_the_command_prints_the_plan_and_creates_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    with Sandbox(account(300), key=KEY) as api:
        monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", api.url)
        words = ["backfill", "--plan", "--from", "2000-01-01", "--quiet", "--json"]
        ran = CliRunner().invoke(cli.app, words)

    result = json.loads(ran.stdout)
    assert (ran.exit_code, result["rows"], result["requests"], result["windows"]) == (0, 300, 3, 1)
    assert sum(part["rows"] for part in result["parts"]) == 300
    assert list(home.glob("**/*.duckdb")) == []


def test_a_range_that_ends_before_it_begins_is_refused_before_the_first_request() -> None:
    with Sandbox(Account(10), key=KEY) as api:
        with pytest.raises(ConfigurationError, match="is later than the end"):
            planned(api, "2026-02-01", "2026-01-01")

        assert api.requests == []


def test_a_stopped_plan_does_not_promise_to_resume() -> None:
    go_on = threading.Event()

    def first_dozen(_: object) -> None:
        assert len(api.requests) < 12 or go_on.wait(60)

    with Sandbox(account(8_000), key=KEY, on_request=first_dozen) as api:
        process = start_command(api, "backfill", "--plan", "--from", "2000-01-01")
        wait_until(lambda: len(api.requests) >= 12)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=PATIENCE)
        go_on.set()

    assert process.returncode == 1
    assert "Stopped.\nNothing was loaded. Run it again." in output
    assert "goes on" not in output


def test_an_error_ends_the_plan_at_once() -> None:
    fault = Fault("401", after=40)
    with Sandbox(account(8_000), key=KEY, latency=0.02, faults=[fault]) as api:
        with pytest.raises(KeyRefused):
            planned(api)

        assert len(api.requests) <= 60
    assert [t for t in threading.enumerate() if t.name.startswith("ThreadPool")] == []
