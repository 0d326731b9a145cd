"""The DAG in Airflow: intervals, a backfill with the newest first, and retries.

Airflow wants libraries of its own, so its commands run from the environment that
`make test-orchestrators` makes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import duckdb
import postgres
import pytest
from airflows import BIN, DAGS, Airflow, within_patience
from conftest import KEY
from pages import blocks, page
from patience import PATIENCE

from unify_source.common.times import parse_instant
from unify_source.sandbox import Account, Clock, Fault, Request, Sandbox
from unify_source.sandbox.invent.drift import DRIFTS

pytestmark = pytest.mark.airflow

FIRST, LAST = "2026-05-25", "2026-05-29"
LOOKBACK = timedelta(minutes=10)
YEAR = (
    "from datetime import datetime, timezone;"
    "year = [datetime(at, 1, 1, tzinfo=timezone.utc) for at in (2025, 2026)]"
)


class Loading(Airflow):
    """An installation whose only DAG reads from one local API."""

    def __init__(self, home: Path, dsn: str, api: Sandbox) -> None:
        self.api, self.file = api, home / "unify_gtm.duckdb"
        super().__init__(
            home,
            dsn,
            UNIFY_API_KEY=KEY,
            SOURCES__UNIFY__BASE_URL=api.url,
            SOURCES__UNIFY__RETRY_BUDGET="0.1",
            DESTINATION__DUCKDB__CREDENTIALS=str(self.file),
            AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="True",
        )

    def loaded(self, dataset: str = "unify") -> set[str]:
        """Return the ids of the enrollments that were loaded."""
        with duckdb.connect(str(self.file)) as connection:
            rows = connection.execute(f"SELECT id FROM {dataset}.enrollments").fetchall()
        return {row[0] for row in rows}

    def tried(self, program: str, **environment: str) -> str:
        """Run a program beside the DAG, which must fail, and return what it prints."""
        done = subprocess.run(
            [str(BIN / "python"), "-c", f"import unify_dag; {program}"],
            env={**self.environment, "PYTHONPATH": str(DAGS), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shown(self, first: str, after: str) -> set[str]:
        """Return the ids of what was updated in some days, and in the lookback before them."""
        since, until = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (first, after))
        rows = {row["id"]: parse_instant(row["updated_at"]) for row in self.api.account.rows()}
        return {key for key, at in rows.items() if at and since - LOOKBACK <= at < until}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Loading]:
    account = Account(1_000, clock=Clock(datetime(2026, 6, 1, 12, tzinfo=timezone.utc)))
    with postgres.database(postgres_server) as dsn, Sandbox(account, key=KEY) as api:
        made = Loading(tmp_path_factory.mktemp("airflow"), dsn, api)
        [pool] = re.findall(r"^airflow (pools set .*)$", page("orchestration"), re.MULTILINE)
        done = made.run(*pool.replace('"', "").split(" ", 4))
        assert done.returncode == 0, done.stderr
        yield made


def test_a_run_loads_its_interval(airflow: Loading) -> None:
    done = airflow.run("dags", "test", "unify", "2026-05-17")

    assert done.returncode == 0, done.stdout + done.stderr
    assert airflow.loaded() == airflow.shown("2026-05-16", "2026-05-17") != set()


def test_a_refused_key_is_not_retried(airflow: Loading) -> None:
    airflow.api.reset()

    done = airflow.run("dags", "test", "unify", "2026-05-10", UNIFY_API_KEY="another")

    assert done.returncode == 1
    assert "AirflowFailException" in done.stdout + done.stderr
    assert len(airflow.api.requests) == 1
    tries = (
        "SELECT state, try_number, max_tries FROM task_instance ORDER BY start_date DESC LIMIT 1"
    )
    assert airflow.ask(tries) == [("failed", 1, 3)]


def test_rows_in_quarantine_fail_the_task_for_good_and_the_others_are_loaded(
    airflow: Loading,
) -> None:
    program = f"{YEAR}; unify_dag.load_interval('unify', {{}}, *year)"
    account = Account(300, clock=Clock(datetime(2026, 2, 1, tzinfo=timezone.utc)))
    with Sandbox(account, key=KEY, reshape=DRIFTS["changed-types"]) as api:
        printed = airflow.tried(
            program,
            SOURCES__UNIFY__BASE_URL=api.url,
            DESTINATION__DUCKDB__CREDENTIALS="odd_rows.duckdb",
        )

    assert "AirflowFailException: Loaded, but" in printed
    with duckdb.connect("odd_rows.duckdb") as connection:
        rows = connection.execute("SELECT count(*) FROM unify.enrollments_quarantine").fetchall()
    assert rows != [(0,)]


@pytest.mark.parametrize(
    ("account", "environment"),
    [
        ("acme", {"UNIFY_API_KEY_ACME": KEY, "UNIFY_SETTINGS_ACME": '{"api_key": "another"}'}),
        ("zed", {"UNIFY_SETTINGS_ZED": json.dumps({"api_key": KEY, "workers": 2})}),
    ],
)
def test_an_account_has_a_dag_a_dataset_and_a_key_of_its_own_as_a_variable_or_a_setting(
    airflow: Loading, account: str, environment: dict[str, str]
) -> None:
    done = airflow.run(
        *("dags", "test", f"unify_{account}", "2026-05-17"),
        UNIFY_ACCOUNTS="acme, zed,",
        UNIFY_API_KEY="another",
        **environment,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert airflow.loaded(f"unify_{account}") == airflow.shown("2026-05-16", "2026-05-17")


def test_a_type_error_in_mid_load_is_retried_as_any_error_is(airflow: Loading, home: Path) -> None:
    # Whoever's mistake it is: Python calls this handler between two lines of the load.
    breaking = (
        "import os, pathlib, signal\n"
        "def fail(*_): raise TypeError('the mistake of a library')\n"
        "signal.signal(signal.SIGUSR1, fail)\n"
        f"pathlib.Path({str(home / 'pid')!r}).write_text(str(os.getpid()))\n"
    )

    def fail_at_the_first_request(_request: Request) -> None:
        if len(api.requests) == 1:
            os.kill(int((home / "pid").read_text()), signal.SIGUSR1)

    with Sandbox(Account(300), key=KEY, on_request=fail_at_the_first_request) as api:
        printed = airflow.tried(
            f"{YEAR}\n{breaking}unify_dag.load_interval('unify', {{'page_size': 10}}, *year)",
            SOURCES__UNIFY__BASE_URL=api.url,
        )

    assert "the mistake of a library" in printed
    assert "AirflowFailException" not in printed


@pytest.mark.parametrize(
    ("program", "environment", "error"),
    [
        ("unify_dag.settings_of('acme')", {}, "UNIFY_API_KEY_ACME is not set"),
        ("unify_dag.settings_of('')", {"UNIFY_SETTINGS": "[1]"}, "UNIFY_SETTINGS is not a JSON"),
        ("unify_dag.settings_of('')", {"UNIFY_SETTINGS": "{"}, "UNIFY_SETTINGS is not a JSON"),
        *(
            (
                "unify_dag.settings_of('acme')",
                {"UNIFY_SETTINGS_ACME": settings, "UNIFY_API_KEY": KEY},
                error,
            )
            for settings, error in (
                ('{"api_key": ""}', "UNIFY_API_KEY_ACME is not set"),
                ('{"start": "secret"}', "Take start out of UNIFY_SETTINGS_ACME"),
                ('"secret"', "UNIFY_SETTINGS_ACME is not a JSON object"),
            )
        ),
        ("unify_dag.load_interval('unify', {}, None, None)", {}, "has no data interval"),
        ("unify_dag.load_interval('unify', {}, 1, 1)", {}, "has no data interval"),
        (
            f"{YEAR}; unify_dag.load_interval('unify', {{'wrokers': 1}}, *year)",
            {},
            "wrokers is not",
        ),
        (f"{YEAR}; unify_dag.load_interval('unify', {{'lock_timeout': 'x'}}, *year)", {}, "'x'"),
    ],
)
def test_what_no_retry_mends_fails_for_good_before_the_first_request(
    airflow: Loading, program: str, environment: dict[str, str], error: str
) -> None:
    airflow.api.reset()

    printed = airflow.tried(program, **environment)

    assert "AirflowFailException" in printed
    assert error in printed
    assert "secret" not in printed
    assert not airflow.api.requests


def test_an_account_whose_dataset_might_be_anothers_is_refused(airflow: Loading) -> None:
    assert "'a-b' cannot be part" in airflow.tried("", UNIFY_ACCOUNTS="a_b,a-b")


def test_a_backfill_loads_the_newest_day_first_and_a_failed_run_is_retried(
    airflow: Loading,
) -> None:
    [shown_here] = [b for b in blocks("shell", page("orchestration")) if "backfill create" in b]
    [unpause] = re.findall(r"^airflow (dags unpause .*)$", shown_here, re.MULTILINE)
    [line] = re.findall(r"^airflow (backfill create .*)$", shown_here, re.MULTILINE)
    words = line.replace("2026-05-01", FIRST).replace("2026-05-31", LAST).split()
    runs = "FROM dag_run WHERE run_type = 'backfill'"
    airflow.api.arm(Fault("500"))
    airflow.api.reset()
    with airflow.running():
        is_paused = "SELECT is_paused FROM dag WHERE dag_id = 'unify'"
        within_patience(lambda: airflow.ask(is_paused))
        done = airflow.run(*unpause.split())
        assert done.returncode == 0, done.stderr
        assert airflow.ask(is_paused) == [(False,)]
        done = airflow.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        within_patience(
            lambda: airflow.ask("SELECT 1 FROM task_instance WHERE state = 'up_for_retry'")
        )
        airflow.api.arm()
        within_patience(
            lambda: airflow.ask(f"SELECT count(*) {runs} AND state = 'success'") == [(5,)]
        )

        within_patience(
            lambda: airflow.ask(
                "SELECT 1 FROM task_instance WHERE state = 'success' AND try_number > 1"
            )
        )

    spans = airflow.ask(
        "SELECT logical_date, task_instance.start_date, task_instance.end_date"
        " FROM task_instance JOIN dag_run USING (dag_id, run_id)"
        " WHERE run_type = 'backfill' ORDER BY task_instance.start_date"
    )
    assert [logical_date.day for logical_date, _, _ in spans] == [29, 28, 27, 26, 25]
    assert all(end <= start for (_, _, end), (_, start, _) in pairwise(spans))
    assert airflow.loaded() >= airflow.shown("2026-05-25", "2026-05-30")
