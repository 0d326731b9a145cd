"""What the README shows is true: its tables, its commands, its output, its code."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import dlt
import duckdb
import postgres
import pytest
import requests
import yaml  # type: ignore[import-untyped]
from conftest import KEY
from readme import ROOT, TEXT_OF, blocks
from warehouse import columns, shown, stored

from unify_source import sync, unify_source
from unify_source.cli.app import app
from unify_source.resources import FLAG, INSTANT, QUARANTINE, TABLES, TEXT
from unify_source.sandbox import DRIFTS, Account, Sandbox
from unify_source.sandbox.faults import KINDS
from unify_source.sandbox.query import ORDERS
from unify_source.settings import SETTINGS, checked_settings

BIN = Path(sys.executable).parent
DEMO_FILE = "unify_demo.duckdb"
ANYWHERE = ["--port", "0", "--enrollments", "300"]
TYPE_NAMES = {TEXT: "text", FLAG: "boolean", INSTANT: "timestamp"}
ALL = (*TABLES, QUARANTINE)
COMMANDS = app.commands

Serve = Callable[..., Sandbox]


def section(title: str) -> str:
    """Return what stands under a heading, up to the next."""
    [found] = re.findall(
        rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", TEXT_OF, re.DOTALL | re.MULTILINE
    )
    return str(found)


def grids(text: str) -> list[list[list[str]]]:
    """Return the tables in a text: for each its rows, the heading first, for each row its cells."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in grid.splitlines()
            if not line.startswith("|---")
        ]
        for grid in (re.sub(r"\| (?=\|)", "|  ", grid) for grid in found)
    ]


def rows_of(text: str, *heading: str) -> list[list[str]]:
    """Return the rows of the one table with this heading."""
    [found] = [grid[1:] for grid in grids(text) if grid[0] == list(heading)]
    return found


def code(cell: str) -> str:
    return cell.strip("`")


def shell_lines() -> list[str]:
    """Return every command of ours that a block shows, without comment, prompt or key of YAML."""
    shown_in = "\n".join(b for kind in ("shell", "yaml", "crontab") for b in blocks(kind))
    return re.findall(r"(unify-source [^#\n|)]*[^#\s|)])", shown_in)


def in_shell(script: str, **known: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script],
        env={**os.environ, "PATH": path, **known},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def of_api(api: Sandbox) -> dict[str, str]:
    return {"SOURCES__UNIFY__BASE_URL": api.url, "UNIFY_API_KEY": KEY}


def test_the_data_dictionary_has_every_column_with_its_type_and_a_sentence() -> None:
    for table in ALL:
        rows = rows_of(section(f"`{table.name}`"), "column", "type", "meaning")
        told = [(code(name), kind) for name, kind, _ in rows]
        assert told == [(item.name, TYPE_NAMES[item.type]) for item in table.schema()]
        assert all(re.fullmatch(r"[A-Z`].*\.", meaning) for *_, meaning in rows)


def test_the_diagram_draws_every_column_with_its_type_and_key() -> None:
    [diagram] = [block for block in blocks("mermaid") if block.startswith("erDiagram")]
    drawn = {
        name: [line.split() for line in body.strip().splitlines()]
        for name, body in re.findall(
            r"^    (\w+) \{\n(.*?)^    \}", diagram, re.DOTALL | re.MULTILINE
        )
    }
    assert drawn == {
        table.name: [
            [TYPE_NAMES[item.type], item.name]
            + (
                ["PK"]
                if item.name == "id"
                else ["FK"]
                if table.column(item.name).references
                else []
            )
            for item in table.schema()
        ]
        for table in ALL
    }


def test_the_diagram_joins_the_tables_along_their_links() -> None:
    [diagram] = [block for block in blocks("mermaid") if block.startswith("erDiagram")]
    joined = {
        (column.references, table.name, column.name)
        for table in ALL
        for column in table.columns
        if column.references in {known.name for known in ALL}
    }

    # A reply and its enrollment name each other; one line is enough.
    joined.remove(("reply_email_messages", "enrollments", "reply_email_message_id"))
    drawn = re.findall(r"^    (\w+) [|o{}-]+ (\w+) : (\w+)$", diagram, re.MULTILINE)
    assert set(drawn) == joined


def test_the_readme_names_every_column_that_serves_the_merge(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(50))
    sync(pipeline, api_key=KEY, base_url=api.url)

    made = {c for table in ALL for c in columns("unify_gtm.duckdb", table.name)}
    own = {name for name in made if name.startswith("_")}

    told = set(re.findall(r"`(_\w+)`", section("`enrollments_quarantine`")))
    assert {"_as_of", "_deleted", "_enrollment_id"} <= own <= told


def test_the_settings_are_those_of_the_source_with_their_defaults() -> None:
    rows = rows_of(section("Settings"), "setting", "default", "meaning")
    parameters = list(inspect.signature(unify_source).parameters)
    assert [code(name) for name, *_ in rows] == [n for n in parameters if n != "updated_at"]

    assert rows == [
        [f"`{name}`", f"`{fact.default}`" if fact.default else "", fact.description]
        for name, fact in SETTINGS.items()
    ]
    shown_defaults = {code(name): code(default) for name, default, _ in rows if default}
    nothing_said = checked_settings({"api_key": KEY})
    assert checked_settings({"api_key": KEY, **shown_defaults}) == nothing_said
    for name in vars(nothing_said).keys() & {code(row[0]) for row in rows}:
        has_default = getattr(nothing_said, name) not in (None, ()) and name != "api_key"
        assert has_default == (name in shown_defaults), name


def test_the_commands_are_those_of_the_program() -> None:
    told = rows_of(section("Commands"), "command", "does")

    assert {code(command) for command, _ in told} == {f"unify-source {name}" for name in COMMANDS}


def test_the_options_are_those_of_the_commands() -> None:
    told = rows_of(section("Commands"), "option", "of", "meaning")

    assert {(code(option), name) for option, names, _ in told for name in names.split(", ")} == {
        (option, name)
        for name, command in COMMANDS.items()
        for parameter in command.params
        for option in parameter.opts
    }


@pytest.mark.parametrize("line", sorted(set(shell_lines())))
def test_a_shown_command_is_understood(line: str) -> None:
    _, name, *words = shlex.split(line)

    COMMANDS[name].make_context(name, words)


def test_a_command_that_is_not_understood_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--nonesuch"):
        COMMANDS["sync"].make_context("sync", ["--nonesuch"])


def test_every_make_target_that_is_shown_exists() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"^(?:\$ )?make (\w+)", TEXT_OF, re.MULTILINE)) <= set(targets)


def test_every_extra_that_is_shown_exists() -> None:
    extras = set(re.findall(r"pip install '\.\[(\w+)\]'", TEXT_OF))

    assert extras
    assert extras <= set(metadata("unify-source").get_all("Provides-Extra") or [])


def test_every_link_and_script_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT_OF) if "://" not in link]
    assert all((ROOT / link).exists() for link in links)

    told = re.findall(r"^- `(\w+\.py)`:", section("Recipes"), re.MULTILINE)
    assert sorted(told) == sorted(path.name for path in (ROOT / "pipelines").glob("*.py"))


def test_the_demo_prints_what_the_readme_shows() -> None:
    done = in_shell("unify-source demo")
    assert done.returncode == 0, done.stderr

    [shown_output] = [block for block in blocks("console") if block.startswith("$ make demo\n")]
    told = shown_output.splitlines()[1:]
    printed = done.stdout.splitlines()
    split = printed.index("Tables")
    # How long it took and how many pages overlapped differ, what was loaded does not.
    assert [_without_numbers(line) for line in told[:split]] == [
        _without_numbers(line) for line in printed[:split]
    ]
    assert [_of_any_python(line) for line in told[split:]] == [
        _of_any_python(line) for line in printed[split:]
    ]
    assert Path(DEMO_FILE).exists()


def _of_any_python(line: str) -> str:
    return re.sub(r"\S*/bin/python[\d.]*", "python", line)


def _without_numbers(line: str) -> str:
    return re.sub(r"\d[\d,.]*", "N", line)


def test_the_first_commands_work_as_they_stand(serve: Serve) -> None:
    api = serve(Account(300))
    [script] = [block for block in blocks("shell") if "UNIFY_API_KEY=…" in block]

    done = in_shell(script.replace("UNIFY_API_KEY=…", f"UNIFY_API_KEY={KEY}"), **of_api(api))

    assert done.returncode == 0, done.stderr
    assert "The key is valid" in done.stdout
    assert re.search(r"│ enrollments +│ +300 │", done.stdout)
    assert stored("unify_gtm.duckdb") == shown(api.account)


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
            answer = requests.get(
                f"{url}/sequences/v1/enrollments?limit=1", headers={"x-api-key": KEY}, timeout=30
            )
            assert answer.status_code in (200, 429)
    finally:
        for process in running:
            process.terminate()
            process.communicate(timeout=30)


def test_the_sandbox_in_one_shell_is_synced_from_another() -> None:
    [one, another] = [
        block
        for block in blocks("shell")
        if "--changes-per-second" in block or "SOURCES__UNIFY__BASE_URL" in block
    ]
    told = "http://127.0.0.1:8100"
    assert COMMANDS["sandbox"].make_context("sandbox", []).params["port"] == 8100

    with subprocess.Popen(
        [str(BIN / "unify-source"), *shlex.split(one)[1:], *ANYWHERE],
        stdout=subprocess.PIPE,
        text=True,
    ) as sandbox:
        assert sandbox.stdout is not None
        url = re.findall(r"http://[\d.:]+\d", sandbox.stdout.readline())[0]
        assert told in another
        first = in_shell(another.replace(told, url))
        second = in_shell(another.replace(told, url).replace("unify-source status", ""))
        sandbox.terminate()

    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert "enrollments loaded" in second.stdout
    assert first.stdout.splitlines()[0] != second.stdout.splitlines()[0]


def test_the_json_that_is_shown_has_the_keys_and_kinds_that_are_printed(serve: Serve) -> None:
    api = serve(Account(50))
    told = [json.loads(block) for block in blocks("json")]

    printed = [
        json.loads(in_shell(f"unify-source {command} --json", **of_api(api)).stdout)
        for command in ("sync", "status")
    ]
    refused = in_shell("unify-source sync --json", **{**of_api(api), "UNIFY_API_KEY": "another"})

    assert [_kinds(found) for found in told] == [_kinds(found) for found in printed]
    keys = re.findall(r"`(\w+)`", TEXT_OF[TEXT_OF.index("An error is an object") :])[:3]
    assert list(json.loads(refused.stdout)) == keys


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _kinds(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [_kinds(value[0])]
    return type(value).__name__


def test_the_exit_codes_are_those_that_the_command_ends_with(serve: Serve) -> None:
    good = of_api(serve(Account(50)))
    odd = of_api(serve(Account(500), reshape=DRIFTS["changed-types"]))
    nobody = {"SOURCES__UNIFY__BASE_URL": "http://127.0.0.1:9", "SOURCES__UNIFY__RETRY_BUDGET": "1"}
    runs: list[tuple[str, dict[str, str]]] = [
        ("done", good),
        ("failed", {**good, **nobody}),
        ("misconfigured", {**good, "UNIFY_API_KEY": "another"}),
        ("odd --accept-quarantine", odd),
        ("odd_again", odd),
        ("held --lock-timeout 0.2", good),
    ]

    with duckdb.connect("held.duckdb"), ThreadPoolExecutor() as pool:
        ended = pool.map(
            lambda run: in_shell(f"unify-source sync --pipeline-name {run[0]}", **run[1]), runs
        )
        codes = [end.returncode for end in ended]

    told = rows_of(section("Commands"), "exit code", "meaning")
    assert codes == [0, 1, 2, 0, 3, 5]
    assert {int(number) for number, _ in told} == set(codes)


def test_the_faults_drifts_and_orders_are_those_of_the_sandbox() -> None:
    text = section("The sandbox")
    faults = re.findall(r"`([\w-]+)`", text[text.index("Faults:") : text.index("each with a rate")])
    drifts = re.findall(r"`([a-z-]+)`", text[text.index("Drifts:") :])
    [orders] = [row[2] for row in rows_of(section("Commands"), "option", "of", "meaning")
                if row[0] == "`--order`"]  # fmt: skip

    assert faults == list(KINDS)
    assert [name for name in drifts if name != "sync"] == list(DRIFTS)
    assert set(re.findall(r"`(\w+)`", orders)) == set(ORDERS)


def test_new_fields_become_the_columns_that_are_shown(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(Account(50), reshape=DRIFTS["new-fields"])
    sync(pipeline, api_key=KEY, base_url=api.url)

    rows = rows_of(section("New fields"), "sent", "column", "type in DuckDB")
    told = {code(name): kind for _, name, kind in rows}
    for table in ("enrollments", "sequences", "people", "reply_email_messages"):
        found = columns("unify_gtm.duckdb", table)
        assert told == {name: found.get(name) for name in told}
    assert "beta_nothing" not in columns("unify_gtm.duckdb", "enrollments")
    for sent, name, _ in rows:
        [key] = json.loads(f"{{{code(sent)}}}")
        assert code(name).split("__")[0] == key


def test_the_code_that_is_shown_runs(serve: Serve) -> None:
    api = serve(Account(300))

    ran = [in_shell(shlex.join([sys.executable, "-c", b]), **of_api(api)) for b in blocks("python")]

    assert [done.returncode for done in ran] == [0, 0, 0], [done.stderr for done in ran]
    assert stored("unify_gtm.duckdb") == shown(api.account)
    assert "IN_PROGRESS" in ran[1].stdout
    assert ran[2].stdout.endswith(" 500\n")


def test_the_workflow_is_yaml_and_gives_the_key_to_the_sync() -> None:
    [workflow] = [yaml.safe_load(block) for block in blocks("yaml")]

    *_, last = workflow["jobs"]["sync"]["steps"]
    assert last["run"].startswith("unify-source sync ")
    assert set(last["env"]) == {"UNIFY_API_KEY", "DESTINATION__POSTGRES__CREDENTIALS"}


def scheduled() -> list[str]:
    """Return what the recipes run for Postgres: the line of the crontab and the workflow's step."""
    lines = [line for block in blocks("crontab") for line in block.splitlines()]
    cron = [line.split(maxsplit=5)[5] for line in lines if "--destination postgres" in line]
    [workflow] = [yaml.safe_load(block) for block in blocks("yaml")]
    return [*cron, workflow["jobs"]["sync"]["steps"][-1]["run"]]


@pytest.mark.parametrize("line", scheduled())
def test_a_recipe_for_postgres_is_incremental_with_nothing_kept_between_its_runs(
    line: str, serve: Serve, postgres_server: str, home: Path
) -> None:
    api = serve(Account(1_000))
    requests_of: list[int] = []
    with postgres.database(postgres_server) as dsn:
        known = {**of_api(api), "DESTINATION__POSTGRES__CREDENTIALS": dsn}
        for machine in ("one", "two"):
            folder = home / machine
            folder.mkdir()
            exports = "".join(f"export {name}={shlex.quote(v)}\n" for name, v in known.items())
            (folder / "environment").write_text(exports)
            given = {} if "environment" in line else known
            script = f"cd {folder}\n{line.replace('/srv/unify', str(folder))}"
            ran = in_shell(script, HOME=str(folder), DLT_DATA_DIR=str(folder / "dlt"), **given)
            assert ran.returncode == 0, ran.stderr
            requests_of.append(len(api.requests))
            time.sleep(1.1)
            api.account.change(20, seed=1)
            api.reset()
        found = postgres.ask(dsn, "SELECT count(*) FROM unify.enrollments")

    assert found[0][0] >= 1_000
    assert requests_of[1] <= 5 < requests_of[0]
