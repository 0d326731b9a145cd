"""An installation of Airflow in a folder, driven by its own commands and its HTTP API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import postgres
from patience import PATIENCE

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-airflow" / "bin"
DAGS = ROOT / "pipelines" / "airflow"


class Airflow:
    """Its database is one of Postgres: in SQLite its processes would lock each other out."""

    def __init__(self, home: Path, dsn: str, **environment: str) -> None:
        self.home, self._dsn = home, dsn
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("://", "+psycopg2://", 1),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this folder and of no other one",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__WORKERS": "1",
            **environment,
        }
        self.run("db", "migrate")

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Airflow's."""
        return subprocess.run(
            [str(BIN / "airflow"), *words],
            cwd=self.home,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Query Airflow's own database."""
        return list(postgres.ask(self._dsn, question, *values))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run what turns runs of DAGs into tasks."""
        with ExitStack() as stack:
            for words in (["dag-processor"], ["api-server"], ["scheduler", "--skip-serve-logs"]):
                stack.enter_context(self.process(words[0], *words))
            yield

    @contextmanager
    def process(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command of Airflow's as long as the context lasts; `name` is its log's."""
        with (self.home / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [str(BIN / "airflow"), *words],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(20)
                    # A scheduler waits for its tasks, and a worker for its own.
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def trigger(self, dag: str, start: str, end: str) -> None:
        """Start a run of a DAG over an interval, as the button in Airflow's pages does."""
        within_patience(lambda: self._knows(dag))
        token = self._ask("/auth/token")["access_token"]
        interval = {"data_interval_start": start, "data_interval_end": end}
        self._ask(f"/api/v2/dags/{dag}/dagRuns", token, logical_date=start, **interval)

    def _knows(self, dag: str) -> bool:
        # Its server takes a while to start, and a DAG a while to be read.
        with suppress(OSError):
            token = self._ask("/auth/token")["access_token"]
            return bool(self._ask(f"/api/v2/dags/{dag}", token)["dag_id"])
        return False

    def _ask(self, path: str, token: str = "", **body: str) -> Any:
        request = Request(  # on loopback
            self.address + path,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)


def within_patience(is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so, which it has to be before long on a busy machine."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.5)
