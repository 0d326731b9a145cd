"""Writes what the pages take from the code: tables, commands, options and the picture of the rooms.

    python docs/generate.py

In each page beside this file, what is between `<!-- NAME: written by make docs -->` and
`<!-- end of NAME -->` is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path

import click
import grimp
import of_models

from unify_source.cli.app import app
from unify_source.common import resources
from unify_source.common.resources import (
    DAY,
    FLAG,
    INSTANT,
    JSON,
    KEY,
    TEXT,
    WHOLE,
    Column,
    Resource,
    Table,
)
from unify_source.common.settings import SETTINGS

DOCS = Path(__file__).parent
sys.path.append(str(DOCS.parent / "tests"))
from safeguards import SAFEGUARDS  # noqa: E402 - beside the tests

PACKAGE = "unify_source"
DOORS = (PACKAGE, "__main__")
TYPES = {
    TEXT: "text",
    FLAG: "boolean",
    INSTANT: "timestamp",
    DAY: "date",
    WHOLE: "bigint",
    JSON: "json",
}
ALL = resources.DESCRIBED
LISTS = [value for value in vars(resources).values() if isinstance(value, Resource)]


def diagram() -> str:
    """Draw every promised column, and a line for every reference, as Mermaid."""
    lines = ["```mermaid", "erDiagram"]
    for table in ALL:
        columns = [f"        {TYPES[c.type]} {c.name}{_mark(c)}" for c in _shown(table)]
        lines += [f"    {table.name} {{", *columns, "    }"]
    lines += [_line(t, c) for t in ALL for c in t.columns if c.references and not _is_back(t, c)]
    return "\n".join([*lines, "```"])


def dictionary() -> str:
    """Describe each table, and each of its columns."""
    return "\n\n".join(_described(table) for table in ALL)


def commands() -> str:
    """List the commands with the first sentence of their help."""
    rows = [
        (f"`unify-source {name}`", _sentence(command.help)) for name, command in _commands().items()
    ]
    return _grid(("command", "what it does"), rows)


def options() -> str:
    """List the options, each with the commands that take it in the same sense."""
    takers: dict[tuple[str, str], list[str]] = {}
    for name, command in _commands().items():
        for option in command.params:
            if isinstance(option, click.Option):
                words = ", ".join(f"`{word}`" for word in option.opts)
                takers.setdefault((words, _meaning(option)), []).append(name)
    rows = [(words, ", ".join(names), meaning) for (words, meaning), names in takers.items()]
    return _grid(("option", "of", "meaning"), rows)


def settings() -> str:
    """List the settings with their defaults."""
    rows = [
        (f"`{name}`", f"`{setting.default}`" if setting.default else "", setting.description)
        for name, setting in SETTINGS.items()
    ]
    return _grid(("setting", "default", "meaning"), rows)


def rooms() -> str:
    """Draw which room imports which; an arrow that follows from two others is left out."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            one, other = _room(module), _room(imported)
            if one != other and {one, other}.isdisjoint(DOORS):
                imports.setdefault(one, set()).add(other)
    below: dict[str, set[str]] = {}
    for room in imports:
        _reach(room, imports, below)
    arrows = [
        f"    {room} --> {other}"
        for room in sorted(imports)
        for other in sorted(imports[room])
        if not any(other in below[between] for between in imports[room])
    ]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```"])


def safeguards() -> str:
    """List what keeps the promises, and the test that fails where it is taken out."""
    rows = [
        (
            each.promise,
            name,
            f"`unify_source/{each.file}`",
            f"`tests/{each.test.replace('::', '` `')}`",
        )
        for name, each in SAFEGUARDS.items()
    ]
    return _grid(("promise", "safeguard", "file", "test"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "diagram": diagram,
    "dictionary": dictionary,
    "commands": commands,
    "options": options,
    "settings": settings,
    "rooms": rooms,
    "safeguards": safeguards,
    "definitions": of_models.definitions,
    "models": of_models.model_dictionary,
}


def written(page: str) -> str:
    """Return a page with its blocks as they should be."""
    for name, block in BLOCKS.items():
        marks = rf"(<!-- {name}: written by make docs -->\n).*?(<!-- end of {name} -->)"
        if found := re.search(marks, page, re.DOTALL):
            page = page.replace(found[0], f"{found[1]}{block()}\n{found[2]}")
    return page


def main() -> None:
    """Rewrite the pages, and dbt's description of the tables."""
    of_models.SOURCES.write_text(of_models.sources(), encoding="utf-8")
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        path.write_text(written(page), encoding="utf-8")


def _shown(table: Table) -> Iterator[Column]:
    return (column for column in table.columns if not column.is_internal)


def _mark(column: Column) -> str:
    return " PK" if column.name == KEY else " FK" if column.references else ""


def _is_back(table: Table, column: Column) -> bool:
    # An enrollment and its reply name each other: one line between the two is enough.
    other = next(known for known in ALL if known.name == column.references)
    owner = other.dies_with
    return owner is not None and other.column(owner).references == table.name


def _line(table: Table, column: Column) -> str:
    owned = table.dies_with is not None
    many = "o{" if not owned or _is_listed(table) else "o|"
    return f"    {column.references} {'||' if owned else '|o'}--{many} {table.name} : {column.name}"


def _is_listed(table: Table) -> bool:
    paths = [(part.path, r.lists) for r in LISTS for part in r.parts if part.table is table]
    return any(path and path[-1] in lists for path, lists in paths)


def _described(table: Table) -> str:
    rows = [
        (
            f"`{column.name}`",
            TYPES[column.type],
            "PII" if column.pii else "",
            f"[`{column.references}`](#{column.references})" if column.references else "",
            column.description,
        )
        for column in _shown(table)
    ]
    heading = ("column", "type", "PII", "references", "meaning")
    return f"## `{table.name}`\n\n{table.description}\n\n{_grid(heading, rows)}"


def _commands() -> MutableMapping[str, click.Command]:
    return app.commands


def _sentence(text: str | None) -> str:
    return (text or "").split("\n\n")[0].replace("\n", " ").strip()


def _meaning(option: click.Option) -> str:
    words = [_sentence(option.help)]
    if isinstance(option.type, click.Choice):
        words.append(f"One of {', '.join(f'`{choice}`' for choice in option.type.choices)}.")
    if isinstance(option.default, str | int | float) and not option.is_flag:
        default = f"`{option.default}`".replace(".0`", "`")
        variable = f"`{option.envvar}`, or " if option.envvar else ""
        words.append(f"Default: {variable}{default}.")
    return " ".join([*words, *(["Required."] if option.required else [])])


def _grid(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _room(module: str) -> str:
    return module.removeprefix(f"{PACKAGE}.").split(".")[0]


def _reach(room: str, imports: dict[str, set[str]], below: dict[str, set[str]]) -> set[str]:
    if room not in below:
        below[room] = set()
        for other in imports.get(room, ()):
            below[room] |= {other} | _reach(other, imports, below)
    return below[room]


if __name__ == "__main__":
    main()
