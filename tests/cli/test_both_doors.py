"""A caller in Python reads of arguments, and a user of the command line of options."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

import unify_source
from unify_source.cli.options import Options
from unify_source.cli.process import screen_of
from unify_source.common.errors import (
    DestinationUnreachable,
    LoadFailed,
    NotPermitted,
    RateLimited,
    UnifyError,
)
from unify_source.runs.report import Report

PACKAGE = Path(unify_source.__file__).parent
MESSAGES = [
    path
    for path in PACKAGE.rglob("*.py")
    # Only one of the two reads the messages of these folders.
    if path.relative_to(PACKAGE).parts[0] not in ("cli", "dagster")
]
# The name of a command in its JSON.
NAMES = {"backfill --plan"}
MORE = " --verbose shows the log and the traceback."


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield a module's strings, except docstrings and the option that a setting is stated with."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    skipped = [
        node.value
        for node in nodes
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "option")
    ]
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.lineno, node.value


def test_no_message_for_both_names_an_option_of_the_command_line() -> None:
    assert len(MESSAGES) > 100
    assert not [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in MESSAGES
        for line, text in texts(path)
        if re.search(r"--[a-z]", text) and text not in NAMES
    ]


def test_no_message_for_both_is_python_code() -> None:
    assert not [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in MESSAGES
        # The facts describe what a column holds.
        if path.parent.name != "resources"
        for line, text in texts(path)
        if re.search(r"pipeline\.\w+\(", text)
    ]


def test_the_command_line_names_an_argument_as_its_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    report = Report("backfill", "one", "duckdb", "unify", resumed_from=moment)

    with screen_of(Options()) as screen:
        screen.result(report.as_json(), report.as_lines())
    with screen_of(Options(json=True)) as screen:
        screen.result({"notes": ["add yes=True to delete them"]}, [])

    *lines, notes = capsys.readouterr().out.splitlines()
    assert "restart=True starts over" in report.as_lines()[1]
    assert "; --restart starts over." in lines[1]
    assert json.loads(notes) == {"notes": ["add --yes to delete them"]}


@pytest.mark.parametrize(
    ("error", "hint"),
    [(LoadFailed, MORE), (DestinationUnreachable, MORE), (NotPermitted, MORE), (RateLimited, "")],
)
def test_an_error_of_the_destination_names_the_option_that_shows_more(
    error: type[UnifyError], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for verbose in (False, True):
        with pytest.raises(SystemExit), screen_of(Options(verbose=verbose)):
            raise error("It failed.", "Run it again.")
        printed.append(capsys.readouterr().err.splitlines()[-1])

    assert printed == [f"Run it again.{hint}", "Run it again."]
