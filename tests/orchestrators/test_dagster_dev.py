"""The lines that the page shows for Dagster, as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import duckdb
import pytest
from conftest import KEY
from dagsters import within_patience
from pages import ROOT, blocks, page

from unify_source.sandbox import Account, Clock, Sandbox

pytestmark = pytest.mark.dagster

ASKED = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"
WANTED = """
mutation {
  launchPartitionBackfill(backfillParams: {
    partitionNames: ["2026-05-29", "2026-05-30"]
    assetSelection: [{path: ["unify", "enrollments"]}, {path: ["unify", "people"]}]
  }) { __typename }
}
"""
RUNS = "{ runsOrError { ... on Runs { results { status } } } }"


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def in_shell(home: Path, script: str, **environment: str) -> Iterator[None]:
    """Run a script in a folder as long as the context lasts, with Dagster's command on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (home / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-e", "-c", script],
            cwd=home,
            env={**os.environ, "PATH": path, "HOME": str(home), **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            # As Ctrl-C does in a terminal.
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_page_s_lines_start_dagster_and_a_backfill_in_its_pages_loads(
    serve: Callable[..., Sandbox], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the log is looked for; the lines name their own folder.
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    api = serve(Account(300, clock=Clock(datetime(2026, 6, 1, 12, tzinfo=timezone.utc))))
    [shown] = [block for block in blocks("shell", page("orchestration")) if "dagster dev" in block]
    install, *lines = shown.strip().splitlines()
    assert "dagster-webserver" in install
    port = free_port()
    script = "\n".join(lines).replace("UNIFY_API_KEY=…", f"UNIFY_API_KEY={KEY}")
    shutil.copytree(ROOT / "pipelines" / "dagster", home / "pipelines" / "dagster")

    def ask(query: str) -> Any:
        request = Request(  # on loopback
            f"http://127.0.0.1:{port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        # Its server takes a while to start.
        with suppress(OSError), urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def is_healthy() -> bool:
        found = ask(ASKED)
        daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"] if found else []
        started = {each["daemonType"] for each in daemons if each["healthy"]}
        return {"SCHEDULER", "QUEUED_RUN_COORDINATOR", "BACKFILL", "MONITORING"} <= started

    with in_shell(home, f"{script} -p {port}", SOURCES__UNIFY__BASE_URL=api.url):
        within_patience(is_healthy)
        launched = ask(WANTED)["launchPartitionBackfill"]
        assert launched == {"__typename": "LaunchBackfillSuccess"}
        within_patience(
            lambda: [run["status"] for run in ask(RUNS)["runsOrError"]["results"]] == ["SUCCESS"]
        )

    with duckdb.connect(str(home / "unify_gtm.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM unify.enrollments").fetchall() != [(0,)]
