"""What a command that is killed leaves in the temporary folder, the next one removes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dlt
import dying
import pytest
from commands import command
from conftest import start_command
from patience import PATIENCE
from standing import Serve, account

from unify_source import sync

XLSX = ("export", "people", "--output", "people.xlsx")
READING = "unify_source.runs.status last_runs"
COMPARING = "unify_source.runs.verification.sides.scratch Scratch.put"
WRITING = "unify_source.runs.analysis.files _Sheet.write"


def age(folder: Path) -> None:
    """Make all in a folder two minutes older."""
    then = time.time() - 120
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "at"),
    [(("status",), READING), (("verify",), COMPARING), (XLSX, WRITING)],
    ids=["status", "verify", "export"],
)
def test_the_next_command_removes_what_a_killed_one_left(
    words: tuple[str, ...],
    at: str,
    serve: Serve,
    pipeline: dlt.Pipeline,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = serve(account(30))
    sync(pipeline, api_key=api.key, base_url=api.url)
    temporary = home / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    killed = start_command(api, *words, environment={dying.AT: f"{at} 1"})
    assert killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    assert list(temporary.iterdir())
    age(temporary)

    assert command("status").returncode == 0

    assert list(temporary.iterdir()) == []
