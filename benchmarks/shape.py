"""Measures the shape of the code: how much a folder, file and function holds, and the imports.

    python benchmarks/shape.py [--check] [PACKAGE]

Prints a line for each folder, then everything beyond a limit. With `--check`, it fails if there is
any. A folder's names are its files and folders. A function's lines run from its `def` to its last
line, docstring included.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import grimp

from unify_source.common import resources

OURS = Path(__file__).parents[1] / "unify_source"
MOST_FILE_LINES, MOST_FUNCTION_LINES = 250, 40
MOST_NAMES = 10
"""How many files and folders a folder may hold, not counting `__init__.py` and the like."""
LEAST_COMMENTS = 0.04
PACKAGE = "."
GENERAL = ("api", "extract", "flatten", "load")
"""The folders that work for any endpoint, so that a second one is facts in `common/resources/`."""

_LISTS = {r.name for r in vars(resources).values() if isinstance(r, resources.Resource)}
_NAMES = "|".join(sorted(_LISTS))
DIRECTIVE = re.compile(r"# (noqa|type:|fmt:)")
"""A comment for a tool, which explains nothing to a reader."""
ENDPOINT = re.compile(rf"(?<![^\W_])(?:{_NAMES})(?![^\W_])", re.IGNORECASE)


@dataclass(frozen=True)
class Function:
    """A function and its length."""

    place: str
    lines: int


@dataclass(frozen=True)
class Module:
    """A file and its measurements."""

    path: Path
    lines: int
    filled: int
    comments: int
    functions: tuple[Function, ...]
    endpoints: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The folder of the file; a dot for the package's own."""
        return str(self.path.parent)


def measure(package: Path) -> list[Module]:
    """Measure every file of a package."""
    return [_module(path, package) for path in sorted(package.rglob("*.py"))]


def _module(path: Path, package: Path) -> Module:
    name = path.relative_to(package)
    text = path.read_text(encoding="utf-8")
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines()
    comments = sum(t.type == tokenize.COMMENT and not DIRECTIVE.match(t.string) for t in tokens)
    functions = tuple(
        Function(f"{name}:{node.lineno} {node.name}", _length(node))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    endpoints = tuple(
        f"{name}:{number}" for number, line in enumerate(lines, 1) if ENDPOINT.search(line)
    )
    filled = sum(bool(line.strip()) for line in lines)
    return Module(name, len(lines), filled, comments, functions, endpoints)


def cycles(package: Path) -> list[str]:
    """Return each import that closes a cycle, with the path back."""
    sys.path.insert(0, str(package.parent))
    graph = grimp.build_graph(package.name, exclude_type_checking_imports=True, cache_dir=None)
    closing = []
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            back = graph.find_shortest_chain(importer=imported, imported=module)
            if back:
                closing.append(" -> ".join([module, *back]))
    return closing


def violations(modules: list[Module]) -> Iterator[str]:
    """Yield a sentence for everything beyond a limit."""
    for folder, names in _names(modules).items():
        if len(names) > MOST_NAMES:
            where = "The package" if folder == PACKAGE else folder
            yield f"{where} holds {len(names)} files and folders; the limit is {MOST_NAMES}."
    for module in modules:
        if module.lines > MOST_FILE_LINES:
            yield f"{module.path} has {module.lines} lines; the limit is {MOST_FILE_LINES}."
        for function in module.functions:
            if function.lines > MOST_FUNCTION_LINES:
                limit = f"the limit is {MOST_FUNCTION_LINES}"
                yield f"{function.place} has {function.lines} lines; {limit}."
        if module.path.parts[0] in GENERAL:
            yield from (f"{place} names one endpoint." for place in module.endpoints)
    if (share := _comments(modules)) < LEAST_COMMENTS:
        yield f"{share:.1%} of the lines are comments; the limit is {LEAST_COMMENTS:.0%} or more."


def by_folder(modules: Iterable[Module]) -> dict[str, list[Module]]:
    """Group the files by folder."""
    folders: dict[str, list[Module]] = {}
    for module in modules:
        folders.setdefault(module.folder, []).append(module)
    return folders


def row(name: str, modules: list[Module], names: int) -> str:
    """Return a folder's measurements as a line of the printed table."""
    files = [module.lines for module in _files(modules)] or [0]
    functions = [f.lines for module in modules for f in module.functions] or [0]
    ninetieth = quantiles(functions, n=10)[-1] if len(functions) > 1 else functions[0]
    return (
        f"{name:<24}{names:>6}{len(files):>6}{median(files):>8.0f}{max(files):>8}"
        f"{median(functions):>10.0f}{ninetieth:>6.0f}{max(functions):>8}{_comments(modules):>10.1%}"
    )


def main() -> int:
    """Print the shape; return 1 if something that is checked is beyond a limit."""
    parser = argparse.ArgumentParser(description="Measure the shape of the code.")
    parser.add_argument("--check", action="store_true", help="fail if anything is beyond a limit")
    parser.add_argument("package", type=Path, nargs="?", default=OURS, help="its folder")
    options = parser.parse_args()
    modules = measure(options.package)
    print(f"{'':24}{'names':>6}{'files':>6}{'median':>8}{'longest':>8}", end="")
    print(f"{'functions':>10}{'90 %':>6}{'longest':>8}{'comments':>10}")
    names = {folder: len(inside) for folder, inside in _names(modules).items()}
    for folder, inside in by_folder(modules).items():
        print(row(folder, inside, names[folder]))
    print(row("all", modules, sum(names.values())))
    beyond = [*violations(modules)]
    beyond += [f"Import cycle: {cycle}." for cycle in cycles(options.package)]
    print("\nBeyond the limits:" if beyond else "\nEverything is within the limits.")
    print("\n".join(beyond))
    return 1 if beyond and options.check else 0


def _names(modules: list[Module]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for module in _files(modules):
        for path in (module.path, *module.path.parents[:-1]):
            names.setdefault(str(path.parent), set()).add(path.name)
    return names


def _files(modules: list[Module]) -> list[Module]:
    return [module for module in modules if not module.path.stem.startswith("__")]


def _comments(modules: list[Module]) -> float:
    return sum(m.comments for m in modules) / max(1, sum(m.filled for m in modules))


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    sys.exit(main())
