"""Ctrl-C and SIGTERM end a command within seconds while it waits for its turn or for the API."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import pytest
from conftest import KEY, start_command
from filelock import FileLock
from patience import PATIENCE
from stopping import assert_stops
from turns import wait_until

from unify_source import sync
from unify_source.sandbox import Account, Fault, Sandbox

Serve = Callable[..., Sandbox]

FILE = "unify_gtm.duckdb"
PLAN = ("backfill", "--from", "2000-01-01", "--plan")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["sync"])
def test_a_run_that_waits_for_another_stops(command: str, number: int, serve: Serve) -> None:
    with FileLock(FILE + ".lock"):
        process = start_command(serve(), command, "--lock-timeout", "30")
        wait_until(Path(FILE + ".lock.next").exists)

        assert_stops(process, number)


def test_a_run_that_waits_for_a_program_with_the_file_open_stops(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(50))
    sync(pipeline, api_key=KEY, base_url=api.url)
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, FILE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout
        reader.stdout.readline()
        process = start_command(api, "sync", "--lock-timeout", "30")
        wait_until(Path(FILE + ".lock.json").exists)

        assert_stops(process)
        reader.communicate(b"\n")


@pytest.mark.parametrize(
    ("words", "number"),
    [(("sync",), signal.SIGINT), (("check",), signal.SIGTERM), (PLAN, signal.SIGINT)],
)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("500"), id="fails"),
        pytest.param(Fault("429", value=5), id="asks to wait"),
        pytest.param(Fault("slow", value=1_000), id="is silent"),
    ],
)
def test_a_command_that_waits_for_the_api_stops(
    words: tuple[str, ...], number: int, fault: Fault, serve: Serve
) -> None:
    api = serve(Account(50), faults=[fault])
    process = start_command(api, *words)
    wait_until(lambda: len(api.requests) > 0)

    assert_stops(process, number)


@pytest.mark.parametrize("fault", [Fault("500", after=12), Fault("429", after=12, value=60)])
def test_a_plan_that_waits_for_pages_stops(fault: Fault, serve: Serve) -> None:
    api = serve(Account(500), faults=[fault])
    process = start_command(api, *PLAN)
    wait_until(lambda: len(api.requests) > 12)

    assert_stops(process)


@pytest.mark.parametrize("fault", [Fault("500", after=1), Fault("429", after=1, value=60)])
def test_a_run_that_waits_for_quarantined_rows_stops(
    fault: Fault, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    def unreadable(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "is_paused": "true"}

    api = serve(Account(20), reshape=unreadable)
    assert sync(pipeline, api_key=KEY, base_url=api.url).quarantined == 20
    api.reset()
    api.arm(fault)
    process = start_command(api, "sync")
    wait_until(lambda: len(api.requests) > 1)

    assert_stops(process)


INTERRUPTED_AT_ITS_END = """
import atexit, os, signal
from unify_source.cli.process import run

atexit.register(print, "the rest of it")
atexit.register(os.kill, os.getpid(), signal.SIGINT)
run(lambda: None)
"""


def test_ctrl_c_once_the_work_is_done_changes_nothing() -> None:
    words = [sys.executable, "-c", INTERRUPTED_AT_ITS_END]

    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "the rest of it\n", "")
