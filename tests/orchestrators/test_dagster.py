"""The assets in Dagster: partitions, selections, checks, retries and accounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import duckdb
import pytest
from conftest import KEY
from pages import ROOT, blocks, page
from patience import PATIENCE
from warehouse import shown

from unify_source import sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME
from unify_source.dagster import (
    ACCOUNTS,
    UnifyAccount,
    UnifyDataset,
    daily,
    unify_checks,
    unify_definitions,
    unify_tables,
)
from unify_source.runs.analysis.models import models
from unify_source.sandbox import Account, Clock, Fault, Request, Sandbox

pytestmark = pytest.mark.dagster

Serve = Callable[..., Sandbox]

FILE = "unify_gtm.duckdb"
FIRST, LAST = "2025-01-01", "2026-06-01"
NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
LOOKBACK = timedelta(minutes=10)
RANGE = {
    "dagster/asset_partition_range_start": "2026-05-28",
    "dagster/asset_partition_range_end": LAST,
}


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    api = serve(Account(300, clock=Clock(NOW)))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", api.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return api


def keys(*tables: str) -> list[dg.AssetKey]:
    return [dg.AssetKey(["unify", table]) for table in tables]


def run(
    instance: dg.DagsterInstance, *parts: Any, only: tuple[str, ...] = (), **how: Any
) -> dg.ExecuteInProcessResult:
    """Run some definitions for a partition or a range, as a run of theirs would."""
    resources = {"unify_account": UnifyAccount(), "unify_dataset": UnifyDataset()}
    job = dg.define_asset_job("job", keys(*only) if only else "*")
    defs = dg.Definitions(parts, jobs=[job], resources=resources)
    return defs.resolve_job_def("job").execute_in_process(
        instance=instance, raise_on_error=False, **how
    )


def updated_ids(api: Sandbox, since: datetime, until: datetime) -> set[str]:
    rows = shown(api.account)["enrollments"]
    column = [c.name for c in BY_NAME["enrollments"].columns if not c.is_internal].index(
        "updated_at"
    )
    return {row[0] for row in rows if since <= row[column] < until}


def ids(table: str, file: str = FILE) -> set[str]:
    return {row[0] for row in stored_rows(f"SELECT id FROM unify.{table}", file)}


def stored_rows(question: str, file: str = FILE) -> list[Any]:
    with duckdb.connect(file) as connection:
        return connection.execute(question).fetchall()


def metadata(result: dg.ExecuteInProcessResult, table: str) -> dict[str, Any]:
    [key] = keys(table)
    events = result.asset_materializations_for_node("unify_tables")
    return {
        name: value.value
        for event in events
        if event.asset_key == key
        for name, value in event.metadata.items()
    }


def test_there_is_an_asset_for_each_table_and_model_described_as_the_facts_do() -> None:
    defs = unify_definitions(FIRST)

    specs = {tuple(spec.key.path): spec for spec in defs.resolve_all_asset_specs()}
    assert specs.keys() == {
        *(("unify", table) for table in BY_NAME),
        *(("unify", "models", model) for model in models()),
    }
    people = specs["unify", "people"]
    columns = people.metadata["dagster/column_schema"].columns
    assert people.description == BY_NAME["people"].description
    assert [(c.name, c.description) for c in columns] == [
        (c.name, c.description) for c in BY_NAME["people"].columns if not c.is_internal
    ]
    assert {c.name for c in columns if "pii" in c.tags} >= {"email", "last_name"}
    funnel = {tuple(dep.asset_key.path) for dep in specs["unify", "models", "sequence_funnel"].deps}
    assert funnel == {("unify", "models", "fct_enrollments"), ("unify", "sequences")}


def test_the_project_and_the_definitions_that_the_page_shows_are_valid_and_need_nothing(
    home: Path,
) -> None:
    files = [ROOT / "pipelines" / "dagster" / "definitions.py"]
    for number, block in enumerate(blocks("python", page("orchestration"))):
        if "unify_source.dagster" in block:
            files.append(home / f"shown_{number}.py")
            files[-1].write_text(block)
    words = [sys.executable, "-m", "dagster", "definitions", "validate"]

    done = subprocess.run(
        [*words, *(word for file in files for word in ("-f", str(file)))],
        env={**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(files) == 3


def test_a_partition_loads_what_was_updated_on_its_day(
    api: Sandbox, instance: dg.DagsterInstance
) -> None:
    result = run(instance, unify_tables(daily(FIRST)), partition_key="2026-05-29")

    day = datetime(2026, 5, 29, tzinfo=timezone.utc)
    asked = updated_ids(api, day - LOOKBACK, day + timedelta(days=1))
    assert result.success
    assert ids("enrollments") == asked != set()
    assert {**metadata(result, "enrollments"), "seconds": 0, "behind_seconds": 0} == {
        "rows_written": len(asked),
        "requests": len(api.requests),
        "quarantined": 0,
        "seconds": 0,
        "cursor": "2026-05-29T23:59:59.999999+00:00",
        "behind_seconds": 0,
    }


def test_without_sync_the_cursor_is_the_end_of_the_newest_partition_and_older_ones_leave_it(
    api: Sandbox, instance: dg.DagsterInstance
) -> None:
    assert api
    tables = unify_tables(daily(FIRST))

    shown = [
        metadata(run(instance, tables, partition_key=day), "people")
        for day in ("2026-05-30", LAST, "2026-05-29")
    ]

    cursors = [datetime.fromisoformat(each["cursor"]) for each in shown]
    assert cursors[0] < NOW
    assert cursors[1:] == [NOW, NOW]
    for each, cursor in zip(shown, cursors, strict=True):
        behind = timedelta(seconds=each["behind_seconds"])
        assert abs(datetime.now(timezone.utc) - cursor - behind) < timedelta(seconds=PATIENCE)


def test_a_range_is_one_run_that_equals_the_api_and_leaves_the_cursor_of_sync(
    api: Sandbox, instance: dg.DagsterInstance
) -> None:
    pipeline = open_pipeline("unify_gtm", "duckdb", "unify")
    before = sync(pipeline, start="2026-05-29").cursor
    api.account.change(30, seed=1)
    api.account.clock.advance(timedelta(hours=1))

    result = run(instance, unify_tables(daily(FIRST)), tags=RANGE)

    partitions = {e.partition for e in result.get_asset_materialization_events()}
    since = datetime(2026, 5, 28, tzinfo=timezone.utc) - LOOKBACK
    until = datetime(2026, 6, 2, tzinfo=timezone.utc)
    assert len(partitions) == 5
    assert ids("enrollments") == updated_ids(api, since, until)
    assert before
    assert metadata(result, "people")["cursor"] == before.isoformat()
    assert metadata(result, "people")["behind_seconds"] > 0


def test_a_selection_loads_only_its_tables(api: Sandbox, instance: dg.DagsterInstance) -> None:
    tables = unify_tables(daily(FIRST))

    result = run(instance, tables, only=("people", "users"), tags=RANGE)

    written = {e.asset_key for e in result.get_asset_materialization_events()}
    made = {row[0] for row in stored_rows("SELECT table_name FROM duckdb_tables()")}
    assert written == {*keys("people", "users")}
    assert {"people", "users"} <= made
    assert not made & (BY_NAME.keys() - {"people", "users"})
    assert api.requests


def test_a_check_fails_for_the_table_that_was_damaged_and_no_other(
    api: Sandbox, instance: dg.DagsterInstance
) -> None:
    sync(open_pipeline("unify_gtm", "duckdb", "unify"))
    assert checked(instance) == set()
    [row] = stored_rows("SELECT min(id) FROM unify.people")
    stored_rows(f"UPDATE unify.people SET last_name = 'Another' WHERE id = '{row[0]}'")

    assert checked(instance) == {("people", 1)}
    assert len(api.requests)


@pytest.mark.parametrize("how", [{"partition_key": "2026-05-31"}, {"tags": RANGE}])
def test_a_check_counts_nothing_that_changed_since_the_load(
    serve: Serve, api: Sandbox, instance: dg.DagsterInstance, how: dict[str, Any]
) -> None:
    assert loaded_and_checked(instance, **how) == {True}
    requests: list[Request] = []

    def change_after_the_window_was_closed(request: Request) -> None:
        requests.append(request)
        if len(requests) == 2:
            api.account.clock.advance(timedelta(minutes=1))
            touched.update(api.account.change(200, seed=1))

    touched: set[str] = set()
    live = serve(api.account, on_request=change_after_the_window_was_closed)
    account = UnifyAccount(settings={"base_url": live.url})

    assert loaded_and_checked(instance, account, **how) == {True}
    assert ids("enrollments") & touched


def loaded_and_checked(
    instance: dg.DagsterInstance, account: UnifyAccount | None = None, **how: Any
) -> set[bool]:
    """Load, and return which outcomes the checks of the same run have."""
    everything = dg.AssetSelection.all() | dg.AssetSelection.all_asset_checks()
    defs = dg.Definitions(
        [unify_tables(daily(FIRST))],
        asset_checks=[unify_checks(daily(FIRST))],
        jobs=[dg.define_asset_job("job", everything)],
        resources={"unify_account": account or UnifyAccount(), "unify_dataset": UnifyDataset()},
    )
    result = defs.resolve_job_def("job").execute_in_process(instance=instance, **how)
    found = result.get_asset_check_evaluations()
    assert len(found) == len(BY_NAME)
    return {each.passed for each in found}


def checked(instance: dg.DagsterInstance) -> set[tuple[str, int]]:
    """Run the checks without partitions, and return what is stale in the tables that failed."""
    defs = unify_definitions(FIRST)
    selection = dg.AssetSelection.all_asset_checks()
    job = dg.define_asset_job("checks", selection)
    with_job = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    result = with_job.resolve_job_def("checks").execute_in_process(instance=instance)
    found = result.get_asset_check_evaluations()
    assert len(found) == len(BY_NAME)
    return {
        (e.asset_key.path[-1], e.metadata["stale"].value)
        for e in found
        if not e.passed and e.severity == dg.AssetCheckSeverity.ERROR
    }


def test_a_refused_key_is_not_retried_and_a_failing_api_is(
    api: Sandbox, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = unify_tables(daily(FIRST), retries=dg.RetryPolicy(max_retries=2))
    monkeypatch.setenv("SOURCES__UNIFY__RETRY_BUDGET", "0.1")
    tries = []
    for key, fault in (("another", None), (KEY, Fault("500"))):
        monkeypatch.setenv("UNIFY_API_KEY", key)
        api.arm(*[fault] if fault else [])
        result = run(instance, tables, partition_key=LAST)
        assert not result.success
        kinds = [event.event_type_value for event in result.all_node_events]
        tries.append(kinds.count("STEP_UP_FOR_RETRY"))
        [failure] = [e.step_failure_data for e in result.all_node_events if e.is_step_failure]
        assert KEY not in str(failure)
        assert failure.user_failure_data.description.count(". ") >= 1

    assert tries == [0, 2]


def test_a_run_whose_step_failed_is_not_started_again(
    api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "pipelines" / "dagster" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("UNIFY_API_KEY", "another")

    with dg.DagsterInstance.get() as instance:
        result = run(instance, unify_tables(daily(FIRST)), partition_key=LAST)
        failed = instance.get_run_by_id(result.run_id)

    assert len(api.requests) == 1
    assert failed
    assert failed.tags["dagster/will_retry"] == "false"


def test_an_account_of_several_in_one_dataset_is_loaded_and_checked(
    api: Sandbox, instance: dg.DagsterInstance
) -> None:
    account = UnifyAccount(settings={"account": "acme"})

    assert loaded_and_checked(instance, account, partition_key=LAST) == {True}
    assert api.requests
    assert stored_rows("SELECT DISTINCT account FROM unify.enrollments") == [("acme",)]


def test_accounts_are_partitions_with_a_key_and_a_dataset_each(
    api: Sandbox, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNIFY_API_KEY")
    for account in ("acme", "zed"):
        monkeypatch.setenv(f"UNIFY_API_KEY_{account.upper()}", KEY)
        instance.add_dynamic_partitions(ACCOUNTS, [account])
    defs = unify_definitions(
        FIRST, by_account=True, dataset=UnifyDataset(credentials="{account}.duckdb")
    )

    result = defs.resolve_job_def("unify_job").execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "acme|2026-05-31",
            "dagster/asset_partition_range_end": f"zed|{LAST}",
        },
    )

    assert result.success
    assert api.requests
    assert {e.passed for e in result.get_asset_check_evaluations()} == {True}
    for account in ("acme", "zed"):
        question = f"SELECT count(*) FROM unify_{account}_models.sequence_funnel"
        assert stored_rows(question, f"{account}.duckdb") != [(0,)]


def test_an_account_has_settings_of_its_own_and_one_without_a_key_or_a_plain_name_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Exception, match="UNIFY_API_KEY_ACME is not set"):
        UnifyAccount().arguments("acme")
    monkeypatch.setenv("UNIFY_API_KEY_ACME", KEY)
    account = UnifyAccount(
        settings={"workers": 4, "page_size": 50}, settings_of={"acme": {"workers": 2}}
    )
    assert account.arguments("acme") == {"workers": 2, "page_size": 50, "api_key": KEY}
    for odd in ("Acme", "a__b", "ä", "1st", "a-b", "_a", "a/b"):
        with pytest.raises(Exception, match="cannot be part of a dataset's name"):
            UnifyDataset().pipeline(odd)


@pytest.mark.parametrize("by_account", [False, True], ids=["one account", "by account"])
def test_the_schedule_loads_the_day_so_far_and_after_midnight_the_day_before(
    *, by_account: bool
) -> None:
    defs = unify_definitions(FIRST, by_account=by_account)
    schedule = defs.resolve_schedule_def("unify_schedule")

    def requested(*at: int) -> list[str | None]:
        # One that stays open would look for its database once the folder is gone.
        with dg.instance_for_test() as instance:
            instance.add_dynamic_partitions(ACCOUNTS, ["acme", "zed"])
            with dg.build_schedule_context(
                instance=instance,
                repository_def=defs.get_repository_def(),
                scheduled_execution_time=datetime(*at, tzinfo=timezone.utc),  # type: ignore[arg-type,misc]
            ) as context:
                requests = schedule.evaluate_tick(context).run_requests
        return [request.partition_key for request in requests]

    accounts = ["acme|", "zed|"] if by_account else [""]
    assert requested(2026, 5, 2, 0, 20) == [f"{account}2026-05-01" for account in accounts]
    assert requested(2026, 5, 2, 1, 20) == [f"{account}2026-05-02" for account in accounts]
    assert requested(2025, 1, 1, 0, 20) == []


def test_the_schedule_requests_days_that_no_run_has_loaded_since_they_ended(api: Sandbox) -> None:
    assert api
    today = datetime.now(timezone.utc).date()
    first, before, yesterday, now, tomorrow = (
        today + timedelta(days=number) for number in (-4, -2, -1, 0, 1)
    )
    defs = unify_definitions(first)
    schedule = defs.resolve_schedule_def("unify_schedule")

    def requested(instance: dg.DagsterInstance) -> list[str | None]:
        with dg.build_schedule_context(
            instance=instance,
            repository_def=defs.get_repository_def(),
            scheduled_execution_time=datetime.combine(tomorrow, time(6), timezone.utc),
        ) as context:
            requests = schedule.evaluate_tick(context).run_requests
        return [request.partition_key for request in requests]

    def days(*each: date) -> list[str]:
        return [day.isoformat() for day in each]

    with dg.instance_for_test() as instance:
        # The history is for a backfill, which a person starts.
        assert requested(instance) == days(tomorrow)
        ran = run(instance, unify_tables(daily(first)), partition_key=now.isoformat())
        assert ran.success
        assert requested(instance) == days(now, tomorrow)
        run(instance, unify_tables(daily(first)), partition_key=before.isoformat())
        assert requested(instance) == days(yesterday, now, tomorrow)

        tags, started = {"dagster/partition": yesterday.isoformat()}, dg.DagsterRunStatus.STARTED
        instance.add_run(
            dg.DagsterRun(job_name="unify_job", run_id=str(uuid4()), tags=tags, status=started)
        )
        assert requested(instance) == days(now, tomorrow)


@pytest.mark.parametrize("start", ["2026-1-1", "yesterday", "", 7])
def test_a_first_day_that_is_none_is_refused(start: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a day"):
        unify_definitions(start)
