"""The flow in Prefect, run from the environment that `make test-orchestrators` makes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest
from conftest import KEY
from pages import ROOT
from patience import PATIENCE

from unify_source.common.times import parse_instant
from unify_source.sandbox import Account, Clock, Sandbox

pytestmark = pytest.mark.prefect

PYTHON = ROOT / ".venv-prefect" / "bin" / "python"
FLOW = ROOT / "pipelines" / "prefect" / "unify_flow.py"
NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def flow(home: Path, api: Sandbox, key: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the flow in the test's folder, with a server of Prefect's that goes with it."""
    environment = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240",
        "DO_NOT_TRACK": "1",
        "UNIFY_API_KEY": key,
        "SOURCES__UNIFY__BASE_URL": api.url,
    }
    return subprocess.run(
        [str(PYTHON), str(FLOW), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_flow_loads_some_days_and_does_not_retry_a_refused_key(
    serve: Callable[..., Sandbox], home: Path
) -> None:
    api = serve(Account(1_000, clock=Clock(NOW)))

    loaded = flow(home, api, KEY, "2026-05-15", "2026-05-16")
    api.reset()
    refused = flow(home, api, "another", "2026-05-15", "2026-05-15")

    assert loaded.returncode == 0, loaded.stderr
    since = datetime(2026, 5, 15, tzinfo=timezone.utc) - timedelta(minutes=10)
    rows = {row["id"]: parse_instant(row["updated_at"]) for row in api.account.rows()}
    with duckdb.connect("unify_gtm.duckdb") as connection:
        found = connection.execute("SELECT id FROM unify.enrollments").fetchall()
    until = datetime(2026, 5, 17, tzinfo=timezone.utc)
    asked = {key for key, at in rows.items() if at and since <= at < until}
    assert {row[0] for row in found} == asked != set()
    assert refused.returncode == 1
    assert "KeyRefused" in refused.stderr
    assert len(api.requests) == 1


def test_serving_without_a_server_that_schedules_is_refused(
    serve: Callable[..., Sandbox], home: Path
) -> None:
    refused = flow(home, serve(Account(1)), KEY, "--serve")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Run `prefect server start`")
