"""Every sandbox that a page shows starts, fails and drifts as the page says."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
import requests
from conftest import KEY
from pages import ANYWHERE, BIN, blocks, in_shell, page, shell_lines

from unify_source.cli.app import app
from unify_source.sandbox import DRIFTS
from unify_source.sandbox.account.query import CURSORS, ORDERS
from unify_source.sandbox.http.faults import KINDS


@pytest.mark.long
def test_every_sandbox_that_is_shown_starts_and_answers() -> None:
    lines = [line for line in shell_lines() if line.startswith("unify-source sandbox")]
    assert len(lines) >= 6
    running = [
        subprocess.Popen(
            [str(BIN / "unify-source"), *shlex.split(line)[1:], *ANYWHERE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in lines
    ]
    try:
        for process in running:
            assert process.stdout is not None
            url = re.findall(r"http://[\d.:]+\d", process.stdout.readline())[0]
            response = requests.get(
                f"{url}/sequences/v1/enrollments?limit=1", headers={"x-api-key": KEY}, timeout=30
            )
            assert response.status_code in (200, 429)
    finally:
        for process in running:
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.long
def test_the_sandbox_in_one_shell_is_synced_from_another() -> None:
    [one, another] = [
        block
        for block in blocks("shell", page("sandbox"))
        if "--changes-per-second" in block or "SOURCES__UNIFY__BASE_URL" in block
    ]
    address = "http://127.0.0.1:8100"
    assert app.commands["sandbox"].make_context("sandbox", []).params["port"] == 8100

    with subprocess.Popen(
        [str(BIN / "unify-source"), *shlex.split(one)[1:], *ANYWHERE],
        stdout=subprocess.PIPE,
        text=True,
    ) as sandbox:
        assert sandbox.stdout is not None
        url = re.findall(r"http://[\d.:]+\d", sandbox.stdout.readline())[0]
        assert address in another
        first = in_shell(another.replace(address, url))
        second = in_shell(another.replace(address, url).replace("unify-source status", ""))
        sandbox.terminate()

    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert "enrollments loaded" in second.stdout
    assert first.stdout.splitlines()[0] != second.stdout.splitlines()[0]


def names_after(title: str) -> list[str]:
    [passage] = re.findall(rf"^{title}: (.*?)\n\n", page("sandbox"), re.DOTALL | re.MULTILINE)
    return re.findall(r"`([\w-]+)`", passage)


def test_the_faults_drifts_orders_and_cursors_are_those_of_the_sandbox() -> None:
    assert names_after("Faults") == list(KINDS)
    assert [name for name in names_after("Drifts") if name != "sync"] == list(DRIFTS)
    assert names_after("Orders") == list(ORDERS)
    assert names_after("Cursors") == list(CURSORS)
