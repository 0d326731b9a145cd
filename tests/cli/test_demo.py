"""The demo: no key needed, and what it prints next works as printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from commands import command, only_json
from patience import PATIENCE

from unify_source.common.resources import TABLES


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Run the demo, and return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = command("demo", "--enrollments", "200")
    assert ran.returncode == 0, ran.stderr
    return folder, ran.stdout.splitlines()


@pytest.fixture
def printed(demo: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Go to the folder of the demo, and return what it printed."""
    folder, lines = demo
    monkeypatch.chdir(folder)
    return lines


def test_demo_needs_no_key_and_leaves_the_tables_it_shows(printed: list[str]) -> None:
    with duckdb.connect("unify_demo.duckdb", read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM unify.enrollments").fetchone()

    assert found
    assert found[0] >= 200
    assert all(any(f" {table.name} " in line for line in printed) for table in TABLES)
    assert "The report is unify_demo_report.html: open it in a browser." in printed
    assert "200" in Path("unify_demo_report.html").read_text(encoding="utf-8")


def test_every_command_that_the_demo_prints_works_as_printed(printed: list[str]) -> None:
    following = [line.strip() for line in printed[-2:]]

    # As on a fresh machine: with no command of ours, and no DuckDB, on the path.
    ran = [
        subprocess.run(
            ["sh", "-c", line],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        for line in following
    ]

    assert [done.returncode for done in ran] == [0, 0], [done.stderr for done in ran]
    assert "enrollments" in ran[0].stdout
    assert "human_reply_percent" in ran[1].stdout


def test_the_answer_is_sorted_by_its_question_and_its_numbers_are_right_aligned(
    printed: list[str],
) -> None:
    asked = printed.index("Which sequences do people reply to?")
    lines = [line for line in printed[asked:] if line.startswith("│")]

    cells = [line.split("│")[1:-1] for line in lines]
    rates = [float(row[3]) for row in cells]
    assert len(rates) > 2
    assert rates == sorted(rates, reverse=True)
    assert all(number.endswith(" ") and number[-2].isdigit() for row in cells for number in row[1:])


@pytest.mark.long
def test_demo_with_json_prints_one_object_that_names_the_file() -> None:
    found = only_json(command("demo", "--enrollments", "50", "--json"))

    assert Path(found["file"]).exists()
