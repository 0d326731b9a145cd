"""The models: SQL files in `runs/analysis/dbt`, for both dbt and `unify-source models`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Template

PACKAGE = Path(__file__).parent / "dbt"

Named = Callable[[str], str]
"""Returns the SQL name of a table or a model."""


@dataclass(frozen=True)
class Column:
    """A column of a model: `data_type` is text, boolean, bigint, double, date or timestamp."""

    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class Model:
    """One view: `sql` is a template that refers to tables by `source` and to models by `ref`."""

    name: str
    description: str
    columns: tuple[Column, ...]
    sql: str

    @property
    def is_intermediate(self) -> bool:
        """Whether it only serves other models."""
        return self.name.startswith("int_")

    def rendered(self, *, ref: Named, source: Named, lacking: Collection[str] = ()) -> str:
        """Return the query in Postgres's dialect, as dbt would render it.

        `lacking` are the tables that do not exist.
        """
        missing = set(map(source, lacking))
        names = {
            "ref": ref,
            "source": lambda _, table: source(table),
            "load_relation": lambda relation: None if relation in missing else relation,
            "var": _variables().__getitem__,
        }
        # In dbt, a package's macros are known everywhere; in Jinja, a template knows only its own.
        macros = vars(_template(_macros()).make_module(names))
        return _template(self.sql).render(macros, **names)


@cache
def models() -> dict[str, Model]:
    """Return all models by name in the order of `models.yml`: each after those that it reads."""
    return {model.name: model for model in _read()}


def _read() -> Iterator[Model]:
    files = {path.stem: path for path in sorted(PACKAGE.glob("models/**/*.sql"))}
    described = yaml.safe_load((PACKAGE / "models" / "models.yml").read_text(encoding="utf-8"))
    for facts in described["models"]:
        yield Model(
            name=facts["name"],
            description=_one_line(facts["description"]),
            columns=tuple(map(_column, facts["columns"])),
            sql=files[facts["name"]].read_text(encoding="utf-8"),
        )


def _column(facts: dict[str, Any]) -> Column:
    return Column(facts["name"], facts["data_type"], _one_line(facts["description"]))


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _template(text: str) -> Template:
    # Nothing is escaped: this is SQL, and all of it is our own.
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(text)  # noqa: S701


@cache
def _variables() -> dict[str, Any]:
    project = yaml.safe_load((PACKAGE / "dbt_project.yml").read_text(encoding="utf-8"))
    return dict(project["vars"])


@cache
def _macros() -> str:
    return "".join(
        path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("macros/*.sql"))
    )
