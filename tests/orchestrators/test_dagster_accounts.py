"""Accounts in Dagster's queue: each takes its turn, and no other waits for it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from accounts import growing
from conftest import KEY
from dagsters import PATIENCE, daemon, days, spans, wanted, within_patience
from pages import page

from unify_source.dagster import ACCOUNTS
from unify_source.sandbox import Request, Sandbox

pytestmark = pytest.mark.dagster

DEFINITIONS = """
import dagster as dg
from unify_source.dagster import UnifyAccount, UnifyDataset, unify_definitions

defs = dg.Definitions.merge(
    unify_definitions(
        "2026-01-01",
        by_account=True,
        account=UnifyAccount(
            settings_of={"acme": {"base_url": "ACME"}, "zed": {"base_url": "ZED"}}
        ),
        dataset=UnifyDataset(credentials="{account}.duckdb"),
    ),
    dg.Definitions(executor=dg.in_process_executor),
)
"""


def keys(account: str, first: int, last: int) -> list[str]:
    return [f"{account}|{day}" for day in days(first, last)]


def raise_the_limit() -> None:
    """Allow several steps in the pool, with the command that the page shows."""
    shown = re.search(
        r"^dagster (instance concurrency set .*)$", page("orchestration"), re.MULTILINE
    )
    assert shown
    words = [sys.executable, "-m", "dagster", *shlex.split(shown[1])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_runs_of_one_account_take_turns_while_another_account_loads(
    serve: Callable[..., Sandbox], home: Path
) -> None:
    goes_on = threading.Event()

    def wait_in_mid_load(_request: Request) -> None:
        goes_on.wait(PATIENCE)

    acme, zed = serve(growing(3_000, 1), on_request=wait_in_mid_load), serve(growing(3_000, 1))
    file = home / "shown.py"
    file.write_text(DEFINITIONS.replace("ACME", acme.url).replace("ZED", zed.url))
    environment = {"UNIFY_API_KEY_ACME": KEY, "UNIFY_API_KEY_ZED": KEY}
    with daemon(home, environment, file) as instance, ExitStack() as ends:
        ends.callback(goes_on.set)
        instance.add_dynamic_partitions(ACCOUNTS, ["acme", "zed"])
        raise_the_limit()
        wanted(instance, "month of acme", keys("acme", 1, 31), file)
        # Dagster starts backfills in any order, and that of both would keep each account waiting.
        within_patience(lambda: acme.requests)
        wanted(instance, "part of acme", keys("acme", 20, 29), file)
        # Dagster makes one run of both accounts, which are more than the days here.
        wanted(instance, "day of both", [*keys("acme", 31, 31), *keys("zed", 31, 31)], file)
        wanted(instance, "part of zed", keys("zed", 1, 29), file)

        def states(*names: str) -> list[dg.DagsterRunStatus]:
            runs = instance.get_runs()
            return [run.status for run in runs if run.tags["dagster/backfill"] in names]

        within_patience(lambda: len(instance.get_runs()) == 4)
        within_patience(lambda: states("part of zed") == [dg.DagsterRunStatus.SUCCESS])
        assert states("month of acme") == [dg.DagsterRunStatus.STARTED]
        assert set(states("part of acme", "day of both")) == {dg.DagsterRunStatus.QUEUED}
        goes_on.set()
        within_patience(lambda: all(run.is_finished for run in instance.get_runs()))

        runs = instance.get_runs()
        assert all(run.is_success for run in runs)
        worked = spans(
            instance, *(r.run_id for r in runs if r.tags["dagster/backfill"] != "part of zed")
        )
    assert len(worked) == 3
    assert all(end <= start for (_, end), (start, _) in pairwise(worked))

    for account in ("acme", "zed"):
        with duckdb.connect(f"{account}.duckdb") as connection:
            counted = connection.execute(f"SELECT count(*) FROM unify_{account}.enrollments")
            assert counted.fetchall() != [(0,)]
