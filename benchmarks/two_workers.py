"""Loads four accounts with Airflow: on one Celery worker, on two, and on two with one killed.

    python benchmarks/two_workers.py [--rows 3000]

Each of four sandboxes answers after 50 ms, Redis is the broker, and Postgres holds Airflow's
database and the warehouse. Needs `redis-server` and the environment .venv-airflow.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from unify_source.sandbox import Account, Clock, Sandbox

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "support"))
import postgres  # noqa: E402 - the server that the tests start
from airflows import Airflow, within_patience  # noqa: E402

ACCOUNTS = ("north", "east", "south", "west")
KEY = "sandbox-key"
LATENCY = 0.05
DAY = timedelta(days=1)
END = datetime(2026, 6, 1, tzinfo=timezone.utc)
"""The end of the last of three days; every account changed the same number of rows on each day."""

PACE = {"page_size": 10, "workers": 1, "window_rows": 500}
"""The latency makes an account take a while, but use little of this machine's CPU."""


@dataclass(frozen=True)
class Phase:
    """The time from the first task's start to the last one's end, and the number of tries."""

    name: str
    seconds: float
    tries: int

    def row(self) -> str:
        """Return it as a row of the page's table."""
        return f"| {self.name} | {self.seconds:.0f} s | {self.tries} |"


class Task(NamedTuple):
    """A task in Airflow's database; `pid` is the process that executes it."""

    account: str
    state: str | None
    pid: int | None
    tries: int
    began: datetime
    ended: datetime


class Fleet:
    """Airflow with its broker, its warehouse, and the accounts to load.

    A task has read `middle` pages when its worker is killed.
    """

    def __init__(self, home: Path, rows: int, stack: ExitStack) -> None:
        self.middle = rows // PACE["page_size"] // 3
        server = stack.enter_context(postgres.running())
        database = stack.enter_context(postgres.database(server))
        self.warehouse = stack.enter_context(postgres.database(server))
        broker = stack.enter_context(_redis(home))
        self.apis = {
            name: stack.enter_context(Sandbox(_account(rows), key=KEY, latency=LATENCY))
            for name in ACCOUNTS
        }
        heartbeat = "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT"
        self.airflow = Airflow(
            home,
            database,
            AIRFLOW__CORE__EXECUTOR="CeleryExecutor",
            AIRFLOW__CELERY__BROKER_URL=broker,
            AIRFLOW__CELERY__RESULT_BACKEND=f"db+{database}",
            AIRFLOW__CELERY__POOL="solo",
            **{f"{heartbeat}_SEC": "5", f"{heartbeat}_TIMEOUT": "40"},
            **{f"{heartbeat}_TIMEOUT_DETECTION_INTERVAL": "5"},
            UNIFY_ACCOUNTS=",".join(ACCOUNTS),
            UNIFY_DESTINATION="postgres",
            DESTINATION__POSTGRES__CREDENTIALS=self.warehouse,
            **{f"UNIFY_API_KEY_{name.upper()}": KEY for name in ACCOUNTS},
            **{f"UNIFY_SETTINGS_{n.upper()}": _settings(api) for n, api in self.apis.items()},
        )
        pool = {"slots": 1, "description": "Loads take turns", "include_deferred": False}
        (home / "pools.json").write_text(json.dumps({f"unify_{n}": pool for n in ACCOUNTS}))
        self.airflow.run("pools", "import", str(home / "pools.json"))

    def worker(self, name: str) -> Any:
        """Run a worker that executes one task at a time."""
        words = ("celery", "worker", "--concurrency", "1", "--skip-serve-logs")
        return self.airflow.process(name, *words, "--celery-hostname", f"{name}@%h")

    def start(self, day: int) -> None:
        """Trigger one day of every account."""
        start = END - (3 - day) * DAY
        for name in ACCOUNTS:
            self.airflow.trigger(f"unify_{name}", start.isoformat(), (start + DAY).isoformat())

    def tasks(self, day: int) -> list[Task]:
        """Return the tasks of a day that exist so far."""
        question = (
            "SELECT dag_id, t.state, t.pid, t.try_number, t.start_date, t.end_date"
            " FROM task_instance t JOIN dag_run r USING (dag_id, run_id) WHERE logical_date = %s"
        )
        rows = self.airflow.ask(question, END - (3 - day) * DAY)
        return [Task(dag.removeprefix("unify_"), *facts) for dag, *facts in rows]

    def is_done(self, day: int) -> bool:
        """Tell whether a day of every account is loaded."""
        states = [task.state for task in self.tasks(day)]
        assert "failed" not in states, "a task failed for good"
        return states == ["success"] * len(ACCOUNTS)

    def differing(self) -> list[str]:
        """Return the accounts of which any row of any table differs from their API."""
        differing = []
        for name, api in self.apis.items():
            command = [sys.executable, "-m", "unify_source", "verify", "--destination", "postgres"]
            environment = {
                **os.environ,
                "UNIFY_API_KEY": KEY,
                "SOURCES__UNIFY__BASE_URL": api.url,
                "DESTINATION__POSTGRES__CREDENTIALS": self.warehouse,
            }
            verified = subprocess.run(
                [*command, "--dataset", f"unify_{name}"], env=environment, check=False
            )
            if verified.returncode:
                differing.append(name)
        return differing


def _account(rows: int) -> Account:
    account = Account(0, clock=Clock(END + DAY))
    step = 3 * DAY / (3 * rows)
    account.put_many(
        {**row, "updated_at": (END - 3 * DAY + number * step).isoformat()}
        for number, row in enumerate(Account(3 * rows, clock=Clock(END)).rows())
    )
    return account


def _settings(api: Sandbox) -> str:
    return json.dumps({"base_url": api.url, **PACE})


@contextmanager
def _redis(home: Path) -> Iterator[str]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with (home / "redis.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=home)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(30)


def _phase(
    fleet: Fleet, day: int, name: str, victim: subprocess.Popen[bytes] | None = None
) -> Phase:
    """Load one day of every account, and kill a worker and its task in the middle."""
    for api in fleet.apis.values():
        api.reset()
    fleet.start(day)
    if victim:
        worker = psutil.Process(victim.pid)
        within_patience(lambda: _is_in_the_middle(fleet, day, worker))
        # A task has its own process group, so it would outlive its worker's.
        for process in [worker, *worker.children(recursive=True)]:
            process.kill()
    within_patience(lambda: fleet.is_done(day), 600)
    tasks = fleet.tasks(day)
    if victim and all(task.tries == 1 for task in tasks):
        sys.exit("The worker was killed, and none of its tasks was tried again on the other one.")
    took = max(task.ended for task in tasks) - min(task.began for task in tasks)
    return Phase(name, took.total_seconds(), sum(task.tries for task in tasks))


def _is_in_the_middle(fleet: Fleet, day: int, worker: psutil.Process) -> bool:
    working = {process.pid for process in worker.children(recursive=True)}
    return any(
        task.pid in working and len(fleet.apis[task.account].requests) > fleet.middle
        for task in fleet.tasks(day)
        if task.state == "running"
    )


def main() -> None:
    """Run the three phases, compare, and print the table."""
    parser = argparse.ArgumentParser(description="Load four accounts on one worker and on two.")
    parser.add_argument("--rows", type=int, default=3_000, help="of each account, each day")
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = Fleet(home, options.rows, stack)
        stack.enter_context(fleet.airflow.running())
        stack.enter_context(fleet.worker("first"))
        # The schedule of each DAG would begin with the last full day, which is empty here.
        loaded = "SELECT count(*) FROM task_instance WHERE state = 'success'"
        within_patience(lambda: fleet.airflow.ask(loaded) == [(len(ACCOUNTS),)])
        phases = [_phase(fleet, 0, "one worker")]
        with fleet.worker("second") as second:
            phases.append(_phase(fleet, 1, "two workers"))
            phases.append(_phase(fleet, 2, "two workers, one killed", second))
        print("| four accounts on | took | tries |\n| --- | --- | --- |")
        print("\n".join(phase.row() for phase in phases))
        if differing := fleet.differing():
            sys.exit(f"Accounts that differ from their API: {', '.join(differing)}.")
        print("No row of any account differs from its API.")


if __name__ == "__main__":
    main()
