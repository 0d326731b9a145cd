"""The README and the pages of `docs`: their sections, tables and blocks of code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import KEY
from patience import PATIENCE

from unify_source.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ANYWHERE = ["--port", "0", "--enrollments", "300"]

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
}


def page(name: str) -> str:
    """Return the text of a page: `README`, or the name of one of those in `docs`."""
    return PAGES[f"{name}.md" if name.isupper() else f"docs/{name}.md"]


def section(text: str, title: str) -> str:
    """Return what is under a heading, up to the next."""
    [matched] = re.findall(
        rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE
    )
    return str(matched)


def blocks(language: str, text: str | None = None) -> list[str]:
    """Return the blocks of code in a language, of a text or of all pages."""
    texts = PAGES.values() if text is None else [text]
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [block for text in texts for block in pattern.findall(text)]


def rows_of(text: str, *heading: str) -> list[list[str]]:
    """Return the rows of the one table with this heading."""
    [rows] = [grid[1:] for grid in _grids(text) if grid[0] == list(heading)]
    return rows


def code(cell: str) -> str:
    """Return a cell's text without its backticks."""
    return cell.strip("`")


def shell_lines() -> list[str]:
    """Return every command of ours that a block shows, without comment, prompt or key of YAML."""
    shown_in = "\n".join(b for kind in ("shell", "yaml", "crontab") for b in blocks(kind))
    return re.findall(r"(unify-source [^#\n|;)]*[^#\s|;)])", shown_in)


def in_shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in bash, with our command on its path."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def of_api(api: Sandbox) -> dict[str, str]:
    """Return the environment that leads the command to this sandbox."""
    return {"SOURCES__UNIFY__BASE_URL": api.url, "UNIFY_API_KEY": KEY}


def _grids(text: str) -> list[list[list[str]]]:
    """Return the tables in a text: for each its rows, the heading first, for each row its cells."""
    return [
        [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|\n"))]
            for line in grid.splitlines()
            if not re.match(r"\| ?-{3}", line)
        ]
        for grid in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    ]
