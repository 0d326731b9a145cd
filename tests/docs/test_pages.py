"""Everything that a page names exists, and everything that it shows runs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import of_models
import pytest
import warm
from generate import BLOCKS, DOCS, written
from pages import PAGES, ROOT, blocks, in_shell, of_api, page, shell_lines
from warehouse import shown, stored

from unify_source.cli.app import app
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

EVERYTHING = "\n".join(PAGES.values())
MOST_README_LINES = 110


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_make_docs_would_change_nothing(name: str) -> None:
    text = PAGES[f"docs/{name}"]

    assert text == written(text), "Run `make docs`."


def test_dbt_knows_the_tables_as_the_facts_state_them() -> None:
    assert of_models.SOURCES.read_text() == of_models.sources(), "Run `make docs`."


def test_every_generated_block_is_on_one_page() -> None:
    placed = re.findall(r"<!-- (\w+): written by make docs -->", EVERYTHING)

    assert sorted(placed) == sorted(BLOCKS)


def test_a_block_that_is_out_of_date_is_rewritten() -> None:
    old = "<!-- rooms: written by make docs -->\nold\n<!-- end of rooms -->\nkept"

    assert written(old) == old.replace("old", BLOCKS["rooms"]())


@pytest.mark.parametrize("name", list(PAGES))
def test_every_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            path = (ROOT / name).parent / target if target else ROOT / name
            assert path.resolve().exists(), link
            assert not anchor or anchor in slugs(path.read_text(encoding="utf-8")), link


def test_every_file_and_folder_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", EVERYTHING))

    assert len(named) > 10
    assert not [path for path in sorted(named) if not _exists(path)]


def _exists(path: str) -> bool:
    return any((root / path).exists() for root in (ROOT, ROOT / "unify_source"))


def test_every_make_target_that_is_shown_exists() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"(?:^|[`$] ?)make ([\w-]+)", EVERYTHING, re.MULTILINE)) <= set(targets)


def test_make_alone_lists_every_target_with_a_line_of_help() -> None:
    done = in_shell(f"make -C {ROOT}")

    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^make (\S+) +\w.+$", done.stdout, re.MULTILINE) == targets


def test_every_extra_that_is_shown_exists() -> None:
    extras = set(re.findall(r"pip install '\.\[(\w+)\]'", EVERYTHING))

    assert {"postgres", "sandbox"} <= extras
    assert extras <= set(metadata("unify-source").get_all("Provides-Extra") or [])


@pytest.mark.parametrize("line", sorted(set(shell_lines())))
def test_a_shown_command_is_understood(line: str) -> None:
    _, name, *words = shlex.split(line)

    app.commands[name].make_context(name, words)


def test_a_command_that_is_not_understood_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--nonesuch"):
        app.commands["sync"].make_context("sync", ["--nonesuch"])


def test_the_readme_is_short_and_names_every_page() -> None:
    text = page("README")

    assert len(text.splitlines()) <= MOST_README_LINES
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} <= set(
        re.findall(r"\]\((docs/[\w-]+\.md)\)", text)
    )


@pytest.mark.long
def test_the_python_that_is_shown_runs(serve: Serve) -> None:
    api = serve(Account(300))

    # The README's three lines come first: they load what the others ask for. The page on the
    # models makes those that the queries ask.
    for name, text in PAGES.items():
        # Dagster and its like are installed by lanes of their own, which run what this page shows.
        for block in blocks("python", text) if name != "docs/orchestration.md" else ():
            done = warm.run(("-c", block), {**os.environ, **of_api(api)})
            assert done.returncode == 0, f"{name}: {done.stderr}"
            if name == "README.md":
                assert stored("unify_gtm.duckdb") == shown(api.account)
            if name == "docs/dlt.md" and "count(last_name)" in block:
                assert re.fullmatch(r"\[\([1-9]\d*, 0\)\]\n", done.stdout)
            if name == "docs/queries.md":
                assert "human_reply_percent" in done.stdout
            if name == "docs/sandbox.md":
                assert done.stdout.endswith(" 500\n")

    assert Path("unify_gtm.duckdb").exists()
