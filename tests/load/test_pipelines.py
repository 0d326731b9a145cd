"""Every script in pipelines/ does what it says, run as a user would run it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import warm
from by_hand import ByHand
from conftest import KEY
from warehouse import shown, stored

import unify_source
from unify_source.common.times import parse_instant
from unify_source.sandbox import DRIFTS, Account, Sandbox

SCRIPTS = Path(__file__).parents[2] / "pipelines"
GTM, INTERVALS = "unify_gtm.duckdb", "unify_intervals.duckdb"
Serve = Callable[..., Sandbox]


def run(script: str, api: Sandbox, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    known = {"SOURCES__UNIFY__BASE_URL": api.url, "UNIFY_API_KEY": KEY}
    return warm.run((str(SCRIPTS / script), *words), {**os.environ, **known, **more})


def updated(row: dict[str, Any]) -> datetime:
    instant = parse_instant(row["updated_at"])
    assert instant is not None
    return instant


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_a_script_uses_the_public_door_only(script: str) -> None:
    imports = [
        (node.module, name.name)
        for node in ast.walk(ast.parse((SCRIPTS / script).read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if (node.module or "").startswith("unify_source")
    ]

    assert set(imports) <= {("unify_source", name) for name in unify_source.__all__}


def test_three_lines_load_the_account_and_then_what_changed(serve: Serve) -> None:
    api = serve(Account(300))
    first = run("three_lines.py", api)
    assert first.returncode == 0, first.stderr
    assert stored(GTM) == shown(api.account)

    api.account.change(20, seed=1)
    # The server tells whole seconds, and a run reads up to the last full one.
    api.account.clock.advance(timedelta(seconds=1))
    api.reset()
    again = run("three_lines.py", api)

    assert again.returncode == 0, again.stderr
    assert stored(GTM) == shown(api.account)
    assert len(api.requests) < 5


def test_a_scheduled_sync_prints_one_line_and_ends_with_zero(serve: Serve) -> None:
    api = serve(Account(300))

    done = run("scheduled_sync.py", api)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert " enrollments loaded into duckdb, dataset unify" in done.stdout
    assert stored(GTM) == shown(api.account)


def test_a_scheduled_sync_ends_with_three_while_rows_are_in_quarantine(serve: Serve) -> None:
    api = serve(Account(300), reshape=DRIFTS["changed-types"])

    assert run("scheduled_sync.py", api).returncode == 3


def test_a_scheduled_sync_exits_with_2_if_the_key_is_refused(serve: Serve) -> None:
    refused = run("scheduled_sync.py", serve(Account(10)), UNIFY_API_KEY="another")

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("The API refused the key")
    assert "Traceback" not in refused.stderr


def test_an_interval_holds_what_was_updated_in_it_and_together_they_hold_everything(
    serve: Serve,
) -> None:
    account = Account(300, days=10)
    api = serve(account)
    instants = sorted(updated(row) for row in account.rows())
    first, last = instants[0], instants[-1] + timedelta(seconds=1)
    middle = datetime.combine(instants[150].date(), datetime.min.time(), timezone.utc)

    newer = run("orchestrated_interval.py", api, middle.date().isoformat(), last.isoformat())
    assert newer.returncode == 0, newer.stderr
    since = middle - timedelta(minutes=10)
    of_interval = [row for row in account.rows() if updated(row) >= since]
    assert 0 < len(of_interval) < 300
    assert stored(INTERVALS) == shown(of_interval, account.sequences())

    older = run("orchestrated_interval.py", api, first.isoformat(), middle.isoformat())

    assert older.returncode == 0, older.stderr
    assert stored(INTERVALS) == shown(account)


def test_the_warehouse_answers_with_the_human_replies_of_each_sequence(serve: Serve) -> None:
    api = serve(Account(300))
    assert run("three_lines.py", api).returncode == 0

    answer = run("ask_the_warehouse.py", api)

    assert answer.returncode == 0, answer.stderr
    lines = [re.split(r" of | % +", line) for line in answer.stdout.splitlines()]
    funnel = ByHand(api.account.rows(), api.account.sequences()).sequence_funnel()
    assert {name: int(replies) for replies, _, name in lines} == {
        name: counts[5] for _, name, _, *counts in funnel
    }
