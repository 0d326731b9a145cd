"""The lease that replaces a lock: claims in the dataset, here in a lake's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import dlt
import pytest
from conftest import KEY
from lakes import Parquet
from turns import wait_until
from warehouse import shown

from unify_source import sync
from unify_source.common.errors import LoadFailed, LockHeld
from unify_source.destinations.locks.claims import Claim, Claims, claims_in
from unify_source.destinations.locks.lease import turn_by_claims
from unify_source.destinations.locks.wait import Held, Wait
from unify_source.destinations.stored.unfinished import UnfinishedMerges
from unify_source.load.packages import cursor
from unify_source.sandbox import Account, Sandbox

LONG = 1_000.0
ELSEWHERE = {"what": "process 7", "where": "elsewhere", "since": "2026-06-01T12:00:00+00:00"}
LIVES = """
import sys
import tempfile
from unify_source.destinations.locks.life import living
with living(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lake(home: Path) -> dlt.Pipeline:
    to = dlt.destinations.filesystem(bucket_url=str(home / "lake"))
    return dlt.pipeline("unify_gtm", destination=to, dataset_name="unify")


@pytest.fixture
def claims(lake: dlt.Pipeline) -> Iterator[Claims]:
    with claims_in(lake) as found:
        assert found
        yield found


def turn(claims: Claims, seconds: float = LONG, wait: float = 0) -> AbstractContextManager[Held]:
    return turn_by_claims(claims, Wait(wait), seconds)


def names(claims: Claims, kind: str = "dataset") -> list[str]:
    return [name for name, claim in claims.all().items() if claim.turn == kind]


def test_runs_that_begin_at_once_never_hold_a_dataset_together(claims: Claims) -> None:
    claims.poll_seconds = 0.001
    together = threading.Barrier(3)
    inside: list[int] = []
    most: list[int] = []

    def take_turns() -> None:
        for _ in range(5):
            together.wait()
            with turn(claims, wait=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    runs = [threading.Thread(target=take_turns) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()

    assert most == [1] * 15
    assert claims.all() == {}


def test_a_run_that_times_out_on_the_lock_names_its_holder(claims: Claims) -> None:
    claims.put("other", Claim("dataset", 1, ELSEWHERE))

    with (
        pytest.raises(LockHeld, match="process 7 on elsewhere has held it since 2026-06-01"),
        turn(claims, wait=0.01),
    ):
        pass

    assert list(claims.all()) == ["other"]


@pytest.mark.parametrize("kind", ["dataset", "next"])
@pytest.mark.parametrize("beat", [0, 9])
def test_a_claim_that_is_unchanged_for_the_length_of_a_lease_is_dead(
    claims: Claims, kind: str, beat: int
) -> None:
    claims.poll_seconds = 0.01
    claims.put("dead", Claim(kind, beat, ELSEWHERE))

    with turn(claims, seconds=0.1, wait=60) as held:
        assert held.is_held()
        assert "dead" not in names(claims, "dataset")


def test_a_claim_that_changes_counts_however_short_the_lease(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.poll_seconds = 0.01
    beats = iter(range(1, 10**6))
    read = claims.all

    def beating() -> dict[str, Claim]:
        claims.put("living", Claim("dataset", next(beats), ELSEWHERE))
        return read()

    monkeypatch.setattr(claims, "all", beating)

    with pytest.raises(LockHeld), turn(claims, seconds=1e-9, wait=0.2):
        pass


def test_a_holder_renews_its_claim(claims: Claims) -> None:
    with turn(claims, seconds=0.04) as held:
        wait_until(lambda: all(claim.beat > 3 for claim in claims.all().values()))
        assert held.is_held()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"beat": "x"}'])
def test_a_claim_that_is_just_being_written_counts(claims: Claims, home: Path, text: str) -> None:
    folder = home / "lake" / "unify_lease"
    folder.mkdir(parents=True)
    (folder / "dataset-other.json").write_text(text)

    with pytest.raises(LockHeld, match="another run has held it"), turn(claims, wait=0.01):
        pass


def test_a_process_of_this_machine_that_was_killed_holds_nothing(claims: Claims) -> None:
    name = uuid4().hex
    claims.put(name, Claim("dataset", 5, ELSEWHERE))
    words = [sys.executable, "-c", LIVES, name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(LockHeld), turn(claims):
            pass
        other.kill()

    with turn(claims) as held:
        assert held.is_held()


def alive(*parts: str) -> list[Path]:
    """Return the files that show live processes of this machine, by parts of their names."""
    files = Path(tempfile.gettempdir()).glob("unify-source-*.alive")
    return [file for file in files if any(part in file.name for part in parts)]


def test_a_run_that_could_not_withdraw_its_claim_blocks_no_other(
    claims: Claims, home: Path
) -> None:
    lake, away = home / "lake", home / "away"
    with turn(claims):
        (ours,) = names(claims)
        lake.rename(away)
    away.rename(lake)
    assert names(claims) == [ours]
    assert alive(ours)

    with turn(claims) as held:
        assert held.is_held()
        assert ours not in names(claims)
    assert not alive(ours)


def test_files_of_killed_processes_are_deleted_after_a_day_and_those_of_live_ones_kept(
    claims: Claims, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    words = [sys.executable, "-c", LIVES]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([*words, "living"], **pipes) as living,
        subprocess.Popen([*words, "killed"], **pipes) as killed,
        subprocess.Popen([*words, "killed-now"], **pipes) as killed_now,
    ):
        for process in (living, killed, killed_now):
            assert process.stdout
            process.stdout.readline()
        for process in (killed, killed_now):
            process.kill()
            process.wait()
        two_days_ago = time.time() - 2 * 24 * 60 * 60
        for name in ("living", "killed"):
            os.utime(home / f"unify-source-{name}.alive", (two_days_ago, two_days_ago))

        with turn(claims):
            pass

        left = {file.name for file in home.glob("*.alive")}
        assert left == {"unify-source-living.alive", "unify-source-killed-now.alive"}
        living.kill()


def test_a_run_that_others_believed_dead_notices(claims: Claims) -> None:
    with turn(claims) as held:
        (ours,) = names(claims)
        claims.put("other", Claim("dataset", 0, ELSEWHERE))
        assert held.is_held()
        claims.put("other", Claim("dataset", 1, ELSEWHERE))
        assert not held.is_held()
        claims.drop("other")
        assert held.is_held()
        claims.drop(ours)
        assert not held.is_held()


def test_a_holder_sees_a_waiting_run_and_queues_behind_it(claims: Claims) -> None:
    claims.poll_seconds = 0.01
    order = []

    def wait_for_it() -> None:
        with turn(claims, wait=60):
            order.append("waiting")

    waiting = threading.Thread(target=wait_for_it)
    with turn(claims) as held:
        assert not held.is_wanted()
        waiting.start()
        wait_until(held.is_wanted)
    with turn(claims, wait=60):
        order.append("again")
    waiting.join()

    assert order == ["waiting", "again"]


@pytest.mark.parametrize("step", ["normalize", "load"])
def test_a_run_that_loses_its_lease_commits_nothing(
    serve: Callable[..., Sandbox], home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    api = serve(Account(200))
    for name, value in Parquet.environment_for(str(home / "lake")).items():
        monkeypatch.setenv(name, value)
    lake = Parquet(dict(os.environ))
    pipeline = lake.pipeline()
    take_step = getattr(pipeline, step)

    def take_step_and_lose_the_lease() -> Any:
        done = take_step()
        shutil.rmtree(home / "lake" / "unify_lease")
        return done

    monkeypatch.setattr(pipeline, step, take_step_and_lose_the_lease)
    with pytest.raises(LoadFailed, match="lost its lock"):
        sync(pipeline, api_key=KEY, base_url=api.url)
    lake.pipeline("two").sync_destination()
    assert cursor(lake.pipeline("two")) is None
    # What it has merged may be older than what another run has merged since.
    assert any(UnfinishedMerges(pipeline).half_merged()) == (step == "load")

    sync(lake.pipeline("three"), api_key=KEY, base_url=api.url)

    assert lake.stored() == shown(api.account)
