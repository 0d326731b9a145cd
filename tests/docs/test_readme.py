"""The README's demo and first commands do what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from conftest import KEY
from pages import blocks, in_shell, of_api, page
from picture import digest, drawn_from
from warehouse import shown, stored

from unify_source.sandbox import Account, Sandbox

DEMO_FILE = "unify_demo.duckdb"
LEFT_OUT = "…"

Serve = Callable[..., Sandbox]


def test_the_demo_prints_what_the_readme_shows() -> None:
    done = in_shell("unify-source demo")
    assert done.returncode == 0, done.stderr

    [block] = [b for b in blocks("console", page("README")) if b.startswith("$ make demo\n")]
    printed = done.stdout.splitlines()
    lines = block.splitlines()[1:]
    passages = [list(part) for gap, part in groupby(lines, LEFT_OUT.__eq__) if not gap]
    beginning, answer, end = passages

    # How long it took and how many pages overlapped differ, what was loaded does not.
    assert _without_numbers(beginning) == _without_numbers(printed[: len(beginning)])
    for passage in (answer, end):
        start = printed.index(passage[0])
        assert passage == printed[start : start + len(passage)]
    assert Path(DEMO_FILE).exists()


def test_the_picture_was_drawn_from_the_templates_as_they_are() -> None:
    assert drawn_from() == digest(), "docs/report.png is older: make picture"


def _without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d[\d,.]*", "N", line) for line in lines]


def test_the_first_commands_work_as_they_are(serve: Serve) -> None:
    api = serve(Account(300))
    [script] = [block for block in blocks("shell", page("README")) if "UNIFY_API_KEY=…" in block]

    done = in_shell(script.replace("UNIFY_API_KEY=…", f"UNIFY_API_KEY={KEY}"), **of_api(api))

    assert done.returncode == 0, done.stderr
    assert "The key is valid" in done.stdout
    assert re.search(r"│ enrollments +│ +300 │", done.stdout)
    assert stored("unify_gtm.duckdb") == shown(api.account)
