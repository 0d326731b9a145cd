"""The page on the command line lists what the program has, and shows what it prints."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import duckdb
from commands import command
from conftest import KEY
from pages import blocks, code, of_api, page, rows_of, section

from unify_source import unify_source
from unify_source.cli.app import app
from unify_source.common.settings import checked_settings
from unify_source.common.settings.limits import LimitArguments
from unify_source.sandbox import DRIFTS, Account, Sandbox

COMMANDS = app.commands
PAGE = page("command-line")

Serve = Callable[..., Sandbox]


def test_the_settings_are_those_of_the_source_with_their_defaults() -> None:
    rows = rows_of(section(PAGE, "Settings"), "setting", "default", "meaning")
    parameters = inspect.signature(unify_source).parameters
    names = [name for name in parameters if name not in ("updated_at", "limits")]
    assert [code(name) for name, *_ in rows] == [*names, *LimitArguments.__annotations__]

    shown_defaults = {code(name): code(default) for name, default, _ in rows if default}
    nothing_said = checked_settings({"api_key": KEY})
    assert checked_settings({"api_key": KEY, **shown_defaults}) == nothing_said
    for name in vars(nothing_said).keys() & {code(row[0]) for row in rows}:
        has_default = getattr(nothing_said, name) not in (None, ()) and name != "api_key"
        assert has_default == (name in shown_defaults), name


def test_the_commands_are_those_of_the_program() -> None:
    listed = rows_of(PAGE, "command", "what it does")

    assert [code(cell) for cell, _ in listed] == [f"unify-source {name}" for name in COMMANDS]


def test_the_options_are_those_of_the_commands() -> None:
    listed = rows_of(section(PAGE, "Options"), "option", "of", "meaning")

    assert {
        (option, name)
        for options, names, meaning in listed
        for option in re.findall(r"`(-[\w-]+)`", options)
        for name in names.split(", ")
        if meaning
    } == {
        (option, name)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }


def test_the_json_that_is_shown_has_the_keys_and_kinds_that_are_printed(serve: Serve) -> None:
    api = serve(Account(50))
    examples = [json.loads(block) for block in blocks("json", PAGE)]

    printed = [
        json.loads(command(name, "--json", **of_api(api)).stdout)
        for name in ("sync", "status", "verify")
    ]
    refused = command("sync", "--json", **{**of_api(api), "UNIFY_API_KEY": "another"})

    assert [_kinds(example) for example in examples] == [_kinds(output) for output in printed]
    keys = re.findall(r"`(\w+)`", PAGE[PAGE.index("An error is an object") :])[:3]
    assert list(json.loads(refused.stdout)) == keys


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _kinds(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [_kinds(item) for item in value[:1]]
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
            lambda run: command("sync", "--pipeline-name", *run[0].split(), **run[1]), runs
        )
        codes = [end.returncode for end in ended]
    codes.append(command("verify", "--pipeline-name", "never_loaded", **good).returncode)

    listed = rows_of(section(PAGE, "Exit codes"), "exit code", "meaning")
    assert codes == [0, 1, 2, 0, 3, 5, 4]
    assert {int(number) for number, _ in listed} == set(codes)
