"""The command that starts the local API: what it serves, and what it refuses to start with."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import click
import pytest
import requests
from asking import LIST, SEQUENCES
from commands import command

from unify_source.cli.demo import sandbox
from unify_source.sandbox import DRIFTS
from unify_source.sandbox.account.query import CURSORS, ORDERS

SERVER = """
import gc
from unify_source.sandbox import Account, serve
def announce(url):
    print(url, gc.get_freeze_count(), flush=True)
serve(Account(10), port=0, key="k", announce=announce)
print("done")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_sandbox_stops_cleanly_on_a_signal(number: int) -> None:
    words = [sys.executable, "-c", SERVER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url, frozen = process.stdout.readline().split()
        assert int(frozen) > 1000
        assert requests.get(url + LIST, headers={"x-api-key": "k"}, timeout=10).ok
        os.kill(process.pid, number)
        assert process.stdout.read() == "done\n"
    assert process.returncode == 0


def test_the_command_serves_both_lists_at_the_address_that_it_prints() -> None:
    options = ["--port", "0", "--enrollments", "100", "--cursor", "offset", "--key", "k"]
    words = [sys.executable, "-m", "unify_source", "sandbox", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split(";")[0].split()[-1]
        for path in (LIST, SEQUENCES):
            assert requests.get(url + path, headers={"x-api-key": "k"}, timeout=10).ok
        process.terminate()
    assert process.returncode == 0


def test_a_taken_port_is_reported_in_a_sentence_with_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ran = command("sandbox", "--enrollments", "1", "--port", port)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"Port {port} is taken." in ran.stderr
    assert "--port" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--order", "newest"),
        ("--cursor", "page"),
        ("--drift", "none"),
        ("--fault", "flood"),
        ("--fault", "429:2"),
        ("--fault", "429:nan"),
        ("--fault", "429:often"),
        ("--latency", "inf"),
        ("--changes-per-second", "inf"),
        ("--rate-limit", "0"),
    ],
)
def test_an_invalid_option_is_named_with_exit_code_2(option: str, value: str) -> None:
    ran = command("sandbox", "--enrollments", "1", "--port", "0", option, value)
    assert ran.returncode == 2
    assert option in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_command_offers_what_the_sandbox_knows() -> None:
    offered: dict[str, Any] = {
        str(option.name): option.type.choices
        for option in sandbox.params
        if isinstance(option.type, click.Choice)
    }
    assert offered == {"order": ORDERS, "cursor": CURSORS, "drift": tuple(DRIFTS)}
