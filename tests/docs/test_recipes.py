"""The recipes work as they are: their lines run, keep the exit code, and need no folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import postgres
import pytest
import yaml
from pages import PAGES, ROOT, blocks, in_shell, of_api, page, section

from unify_source.sandbox import DRIFTS, Account, Sandbox

Serve = Callable[..., Sandbox]


def test_the_workflow_is_yaml_and_gives_the_key_to_the_sync() -> None:
    [workflow] = [yaml.safe_load(block) for block in blocks("yaml", page("recipes"))]

    *_, last = workflow["jobs"]["sync"]["steps"]
    assert last["run"].startswith("unify-source sync ")
    assert set(last["env"]) == {"UNIFY_API_KEY", "DESTINATION__POSTGRES__CREDENTIALS"}


def crontab() -> list[str]:
    """Return what the lines of the crontabs run."""
    lines = "\n".join(blocks("crontab", page("recipes"))).splitlines()
    return [line.split(maxsplit=5)[5] for line in lines if line.startswith("*")]


def scheduled() -> list[str]:
    """Return what the recipes run for Postgres: the line of the crontab and the workflow's step."""
    [workflow] = [yaml.safe_load(block) for block in blocks("yaml", page("recipes"))]
    for_postgres = [line for line in crontab() if "--destination postgres" in line]
    return [*for_postgres, workflow["jobs"]["sync"]["steps"][-1]["run"]]


@pytest.mark.long
@pytest.mark.parametrize("line", scheduled())
def test_a_recipe_for_postgres_is_incremental_with_nothing_kept_between_its_runs(
    line: str, serve: Serve, postgres_server: str, home: Path
) -> None:
    api = serve(Account(600))
    requests_of: list[int] = []
    with postgres.database(postgres_server) as dsn:
        environment = {**of_api(api), "DESTINATION__POSTGRES__CREDENTIALS": dsn}
        for machine in ("one", "two"):
            folder = home / machine
            folder.mkdir()
            exports = "".join(
                f"export {name}={shlex.quote(v)}\n" for name, v in environment.items()
            )
            (folder / "environment").write_text(exports)
            given = {} if "environment" in line else environment
            script = f"cd {folder}\n{line.replace('/srv/unify', str(folder))}"
            ran = in_shell(script, HOME=str(folder), DLT_DATA_DIR=str(folder / "dlt"), **given)
            assert ran.returncode == 0, ran.stderr
            requests_of.append(len(api.requests))
            api.account.clock.advance(timedelta(seconds=2))
            api.account.change(20, seed=1)
            api.reset()
        [[rows]] = postgres.ask(dsn, "SELECT count(*) FROM unify.enrollments")

    assert rows >= 600
    assert requests_of[1] <= 5 < requests_of[0]


def test_every_version_of_ours_that_a_recipe_pins_is_the_current_one() -> None:
    # Not the installed one's: that of an editable installation may be older than the project.
    [current] = re.findall(
        r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    files = (path for path in (ROOT / "pipelines").rglob("*") if path.is_file())
    to_copy = [path.read_text() for path in files if path.suffix != ".pyc"]
    texts = "\n".join([*PAGES.values(), *to_copy])

    pinned = re.findall(
        r"(?:unify-source\S*?(?:==|:|@)v?|(?:ref|revision): v?)(\d+\.\d[\w.]*)", texts
    )

    assert len(pinned) >= 5
    assert set(pinned) == {current}


def test_every_script_to_copy_is_named() -> None:
    named = re.findall(
        r"^- `(\w+\.py)`:", section(page("recipes"), "Scripts to copy"), re.MULTILINE
    )

    assert sorted(named) == sorted(path.name for path in (ROOT / "pipelines").glob("*.py"))


@pytest.mark.parametrize(("kind", "exit_code"), [("good", 0), ("refused key", 2), ("odd rows", 3)])
def test_the_cron_line_keeps_the_exit_code_of_sync_and_is_silent_on_success(
    kind: str, exit_code: int, serve: Serve, home: Path
) -> None:
    odd = {"reshape": DRIFTS["changed-types"]} if kind == "odd rows" else {}
    environment = of_api(serve(Account(300), **odd))
    if kind == "refused key":
        environment["UNIFY_API_KEY"] = "another"
    exports = "".join(f"export {name}={shlex.quote(v)}\n" for name, v in environment.items())
    (home / "environment").write_text(exports)
    [line] = [line for line in crontab() if "unify-source status" in line]

    done = in_shell(line.replace("/srv/unify", str(home)), HOME=str(home))

    assert done.returncode == exit_code, done.stderr
    assert bool(done.stdout + done.stderr) == bool(exit_code)
