"""The exit code is right wherever the output goes: closed, full, abandoned or ASCII only."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from commands import command
from conftest import IS_SOAK, KEY
from patience import PATIENCE

from unify_source.sandbox import DRIFTS, Account, Sandbox

Serve = Callable[..., Sandbox]
ROWS = 300
FULL = Path("/dev/full")
IN_QUARANTINE = 3
needs_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Start a sandbox, and name it and its key in the environment, as a user would."""
    sandbox = serve(Account(ROWS))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return sandbox


def in_shell(line: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of bash, in which `unify` is the command; its exit code, output and errors."""
    unify = f'unify() {{ {shlex.quote(sys.executable)} -m unify_source "$@"; }}\n'
    ran = subprocess.run(
        ["bash", "-c", unify + line],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    errors = ran.stderr.decode()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    return ran.returncode, ran.stdout.decode("latin-1"), errors


def without_progress(errors: str) -> list[str]:
    """Return the lines of standard error without progress, which slow machines log."""
    return [line for line in errors.splitlines() if not re.match(r"\d+:\d\d ", line)]


def loaded() -> int:
    with duckdb.connect("unify_gtm.duckdb", read_only=True) as connection:
        return int(connection.sql("SELECT count(*) FROM unify.enrollments").fetchall()[0][0])


UNBUFFERED = "PYTHONUNBUFFERED=1 unify sync --json | true; exit ${PIPESTATUS[0]}"


@pytest.mark.rounds
@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    "line",
    [
        "unify sync --json | true; exit ${PIPESTATUS[0]}",
        "unify sync 2>&1 | true; exit ${PIPESTATUS[0]}",
        "unify sync --json >&- 2>&-",
        "unify sync <&- >&- 2>&-",
        *([UNBUFFERED] if IS_SOAK else ()),
    ],
)
def test_a_closed_output_or_reader_is_no_failure(line: str) -> None:
    code, _, errors = in_shell(line)

    assert (code, without_progress(errors)) == (0, [])
    assert loaded() == ROWS


@pytest.mark.long
@pytest.mark.usefixtures("api")
def test_status_exits_with_0_though_its_output_is_closed() -> None:
    assert command("sync", "--quiet").returncode == 0

    for line in [
        "unify status --json | true; exit ${PIPESTATUS[0]}",
        "unify status | head -1; exit ${PIPESTATUS[0]}",
        "unify status >&-",
    ]:
        code, _, errors = in_shell(line)
        assert (code, without_progress(errors)) == (0, []), line


@pytest.mark.parametrize("words", ["--help", "--version", "sync --help"])
def test_help_exits_with_0_though_its_output_is_closed(words: str) -> None:
    code, _, errors = in_shell(f"unify {words} | true; exit ${{PIPESTATUS[0]}}")

    assert (code, errors) == (0, "")


@pytest.mark.long
@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("end", ["| true; exit ${PIPESTATUS[0]}", ">&- 2>&-"])
def test_quarantine_and_errors_keep_their_exit_codes_though_the_output_is_closed(
    serve: Serve, end: str
) -> None:
    spoilt = serve(Account(ROWS), reshape=DRIFTS["changed-types"])

    assert in_shell(f"unify sync {end}", SOURCES__UNIFY__BASE_URL=spoilt.url)[0] == IN_QUARANTINE
    assert in_shell(f"unify sync {end}", UNIFY_API_KEY="another")[0] == 2


@needs_a_full_disk
@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("line", ["sync", "sync --json", "status", "--help"])
def test_a_result_lost_to_a_full_disk_is_no_success(line: str) -> None:
    code, _, errors = in_shell(f"unify {line} > /dev/full")

    assert code == 1
    assert without_progress(errors) == [
        "Error: The result could not be written to standard output: No space left on device.",
        "What was loaded stays loaded: free some space there and run it again.",
    ]
    if line.startswith("sync"):
        assert loaded() == ROWS


@needs_a_full_disk
@pytest.mark.usefixtures("api")
def test_a_log_lost_to_a_full_disk_hides_no_success() -> None:
    code, output, _ = in_shell("unify sync --verbose 2> /dev/full")

    assert code == 0
    assert output.startswith(f"{ROWS} enrollments loaded")


@pytest.mark.long
def test_no_variable_makes_a_log_a_terminal_and_it_has_a_line_every_few_seconds(
    serve: Serve,
) -> None:
    api = serve(Account(ROWS), latency=1.5)
    known = {"SOURCES__UNIFY__BASE_URL": api.url, "UNIFY_API_KEY": KEY}
    coloured = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "CLICOLOR_FORCE": "1"}

    code, output, errors = in_shell("unify sync", **known, **coloured)
    shown = in_shell("unify status; unify sync --fast", **known, **coloured)

    assert code == 0
    assert "\x1b" not in output + errors + "".join(shown[1:])
    assert 1 <= len(re.findall(r"^\d+:\d\d Reading pages", errors, re.MULTILINE)) <= 20


@pytest.mark.rounds
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        *([{"PYTHONIOENCODING": "ascii"}] if IS_SOAK else ()),
    ],
)
def test_the_demo_ends_with_0_in_any_encoding(environment: dict[str, str]) -> None:
    code, output, _ = in_shell("unify demo --enrollments 200", **environment)

    assert code == 0
    assert re.search(r"Q\d outbound \? ", output)
    assert "| enrollments " in output
    assert "┃" not in output
