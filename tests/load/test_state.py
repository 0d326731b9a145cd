"""The state travels with the data: to another machine, and past a kill at any moment."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
import warm
from conftest import IS_SOAK, KEY
from patience import PATIENCE
from warehouse import shown, stored

from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import LoadFailed
from unify_source.load.packages import cursor
from unify_source.runs.report import Report
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Clock, Sandbox

Serve = Callable[..., Sandbox]

START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
FILE = "unify_gtm.duckdb"


def machine(name: str, file: Path | str = FILE) -> dlt.Pipeline:
    """Return a machine's pipeline; all machines share one database file."""
    return open_pipeline(
        "unify_gtm", "duckdb", "unify", credentials=str(file), pipelines_dir=f"machines/{name}"
    )


def load(pipeline: dlt.Pipeline, api: Sandbox) -> Report:
    return sync(pipeline, api_key=KEY, base_url=api.url)


def change(account: Account, count: int, seed: int) -> None:
    for part in range(10):
        account.clock.advance(timedelta(minutes=2))
        account.change(count // 10, seed=seed * 100 + part)
    account.clock.advance(timedelta(seconds=1))


def test_with_nothing_but_the_database_the_next_run_is_incremental(
    serve: Serve, home: Path
) -> None:
    api = serve(Account(2_500, clock=Clock(START)))
    load(machine("one"), api)
    for path in home.iterdir():
        if path.name != FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [path.name for path in home.iterdir()] == [FILE]
    change(api.account, 500, seed=1)
    api.reset()

    report = load(machine("two"), api)

    assert len(api.requests) <= 20
    assert 0 < report.enrollments < 1_500
    assert stored(FILE) == shown(api.account)


def test_two_machines_take_turns_on_one_database(serve: Serve) -> None:
    api = serve(Account(400, clock=Clock(START)))
    reached = []

    for seed, name in enumerate(["one", "two", "two", "one"]):
        load(machine(name), api)
        assert stored(FILE) == shown(api.account)
        reached.append(cursor(machine(name)))
        change(api.account, 50, seed)

    assert None not in reached
    assert reached == sorted(set(filter(None, reached)))


def start_sync(api: Sandbox) -> subprocess.Popen[str]:
    settings = {"UNIFY_API_KEY": KEY, "SOURCES__UNIFY__BASE_URL": api.url}
    return warm.start(("sync", "--quiet"), {**os.environ, **settings}, stderr=subprocess.PIPE)


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_loses_nothing(
    seed: int, serve: Serve, pipeline: dlt.Pipeline, home: Path
) -> None:
    chance = random.Random(seed)
    api = serve(Account(1_500, seed=seed), latency=0.03)
    # The even ones die in their first run, the odd ones in a later one.
    if seed % 2:
        load(pipeline, api)
        api.account.change(500, seed=seed)
        api.account.clock.advance(timedelta(seconds=2))
        api.reset()

    running = start_sync(api)
    while not api.requests and running.poll() is None:
        time.sleep(0.01)
    moment = chance.uniform(0.0, 0.9)
    print(f"seed {seed}: killed {moment:.2f} s after its first request")  # noqa: T201 - to repeat it
    time.sleep(moment)
    running.send_signal(signal.SIGKILL)
    assert running.wait() in (-signal.SIGKILL, 0)
    assert running.stderr
    running.stderr.close()

    finishing = start_sync(api)
    _, errors = finishing.communicate(timeout=PATIENCE)
    assert (finishing.returncode, errors) == (0, "")
    assert stored(home / FILE) == shown(api.account)


@pytest.mark.long
@pytest.mark.rounds
@pytest.mark.parametrize(
    ("step", "lost"),
    [
        ("extract", "normalize"),
        ("normalize", "load"),
        ("load", "."),
        *([("extract", "."), ("normalize", ".")] if IS_SOAK else []),
    ],
)
def test_a_window_whose_files_vanish_does_not_count_as_loaded(
    step: str, lost: str, serve: Serve, pipeline: dlt.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(Account(200))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "window_rows": 100}
    proceed = getattr(pipeline, step)
    times = 0

    def proceed_and_lose_files(*given: Any) -> Any:
        nonlocal times
        times += 1
        done = proceed(*given)
        if times == 2:
            shutil.rmtree(Path(pipeline.working_dir, lost))
        return done

    monkeypatch.setattr(pipeline, step, proceed_and_lose_files)

    # Files that the step has read, or does not read, may vanish unnoticed.
    with suppress(LoadFailed):
        sync(pipeline, page_size=10, **given)
        assert stored(FILE) == shown(api.account)

    assert times >= 2
    sync(machine("two"), **{**given, "window_rows": 10_000})
    assert stored(FILE) == shown(api.account)


@dlt.source(name="other")
def other() -> Any:
    return dlt.resource([{"n": 1}], name="things", write_disposition="append")


def things() -> int:
    with duckdb.connect(FILE, read_only=True) as connection:
        return len(connection.execute("SELECT n FROM unify.things").fetchall())


@pytest.mark.long
@pytest.mark.parametrize(("step", "is_first"), [("normalize", True), ("load", False)])
def test_pending_files_of_a_dead_run_beside_another_source_are_read_again_not_loaded(
    step: str, serve: Serve, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    api = serve(Account(300, clock=Clock(START)))
    shared = machine("one")

    def die() -> None:
        raise KeyboardInterrupt

    # The state of all sources goes with the rows of the one that was loaded first.
    if is_first:
        load(shared, api)
    shared.run(other())
    for seed in range(2):
        load(shared, api)
        shared.extract(other())
        change(api.account, 100, seed)
        with monkeypatch.context() as patch:
            patch.setattr(shared, step, die)
            with pytest.raises(KeyboardInterrupt):
                load(shared, api)
        shared.extract(other())
        if seed:
            change(api.account, 100, seed + 10)
            load(machine("two"), api)
            assert stored(FILE) == shown(api.account)

        load(shared, api)
        assert stored(FILE) == shown(api.account)
        assert things() == 2 * seed + 3


OPEN = """
from unify_source.cli.pipeline import open_pipeline
print(open_pipeline("unify_gtm", "duckdb", "unify").pipelines_dir, flush=True)
"""
WAIT = "input()"
FORK = """
import os, sys
if not os.fork():
    sys.exit()
os.wait()
"""
WITHOUT_SIGHT = ("unshare", "--map-root-user", "--pid", "--fork")


@pytest.fixture
def temporary(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def opened(*script: str, command: Sequence[str] = ()) -> tuple[subprocess.Popen[str], Path]:
    """Start a script, and return its process and its first line: its working folder."""
    words = ("-c", "".join(script))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    if command:
        running = subprocess.Popen([*command, sys.executable, *words], text=True, **pipes)
    else:
        running = warm.start_python(words, os.environ, **pipes)
    assert running.stdout
    return running, Path(running.stdout.readline().strip())


def can_run(*command: str) -> bool:
    return subprocess.run(["sh", "-c", shlex.join(command)], check=False).returncode == 0


def age(folder: Path) -> None:
    """Make a folder two minutes older."""
    then = time.time() - 120
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("run", "other"),
    [
        pytest.param(OPEN, (), id="a process"),
        pytest.param(OPEN + FORK, (), id="a process with a fork that ended"),
        pytest.param(OPEN, WITHOUT_SIGHT, id="a process that the other cannot see"),
    ],
)
def test_a_run_keeps_the_folder_of_another_that_is_running(
    run: str, other: Sequence[str], temporary: Path
) -> None:
    if other and not can_run(*other, "true"):
        pytest.skip("processes cannot be hidden here")
    running, folder = opened(run, 'print("ready", flush=True)\n', WAIT)
    assert running.stdout
    assert running.stdout.readline()
    age(folder)

    opened(OPEN, command=other)[0].communicate()

    assert folder.is_dir()
    running.communicate("\n")
    assert list(temporary.iterdir()) == []


def test_a_run_removes_the_folder_of_one_that_was_killed(temporary: Path) -> None:
    running, folder = opened(OPEN, WAIT)
    running.kill()
    running.communicate()
    opened(OPEN)[0].communicate()
    # One that young may belong to a process that has not locked it yet.
    assert folder.is_dir()
    age(folder)

    opened(OPEN)[0].communicate()

    assert list(temporary.iterdir()) == []


def test_a_folder_with_a_similar_name_is_kept(temporary: Path) -> None:
    notes = temporary / "unify-source-my-notes" / "notes.txt"
    notes.parent.mkdir()
    notes.touch()
    age(notes.parent)

    opened(OPEN)[0].communicate()

    assert notes.exists()
