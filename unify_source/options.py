"""The options that commands share, and what was said with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

_FILTERS, _WHERE = "Filters", "Destination"


def _option(kind: Any, help_text: str, panel: str | None = None, *names: str) -> Any:
    return Annotated[kind, typer.Option(*names, help=help_text, rich_help_panel=panel)]


OPTIONS: dict[str, tuple[Any, Any]] = {
    "sequence_id": (_option(str | None, "Only this sequence.", _FILTERS), None),
    "person_id": (_option(str | None, "Only this person.", _FILTERS), None),
    "mailbox_id": (_option(str | None, "Only this mailbox.", _FILTERS), None),
    "play_id": (_option(str | None, "Only what this play enrolled.", _FILTERS), None),
    "status": (
        _option(list[str] | None, "DRAFT, IN_PROGRESS or FINISHED; may be repeated.", _FILTERS),
        None,
    ),
    "destination": (
        _option(str, "Where to load: the name of a dlt destination.", _WHERE),
        "duckdb",
    ),
    "dataset": (_option(str, "The schema that holds the tables.", _WHERE), "unify"),
    "pipeline_name": (
        _option(str, "Names the state, and the DuckDB file in this folder.", _WHERE),
        "unify_gtm",
    ),
    "workers": (_option(int | None, "Requests in flight, 8 unless set."), None),
    "lock_timeout": (
        _option(float, "Seconds to wait for another run on the dataset.", None, "--lock-timeout"),
        60.0,
    ),
    "json": (_option(bool, "Print one JSON object on standard output.", None, "--json"), False),
    "quiet": (_option(bool, "Print nothing but errors.", None, "--quiet"), False),
    "verbose": (_option(bool, "Log every step, show tracebacks.", None, "--verbose"), False),
}
"""Name -> (type with its help, default)."""

LOADING = tuple(OPTIONS)
READING = ("destination", "dataset", "pipeline_name", "lock_timeout", "json", "quiet", "verbose")
SHOWING = ("json", "quiet", "verbose")


@dataclass(frozen=True)
class Said:
    """What was said on the command line with the shared options."""

    destination: str = "duckdb"
    dataset: str = "unify"
    pipeline_name: str = "unify_gtm"
    sequence_id: str | None = None
    person_id: str | None = None
    mailbox_id: str | None = None
    play_id: str | None = None
    status: list[str] | None = None
    workers: int | None = None
    lock_timeout: float = 60.0
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `unify_source` that were given."""
        given = {
            "sequence_id": self.sequence_id,
            "person_id": self.person_id,
            "mailbox_id": self.mailbox_id,
            "enrolled_by_play_id": self.play_id,
            "status": self.status,
            "workers": self.workers,
        }
        return {name: value for name, value in given.items() if value is not None and value != []}


def taking(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options of these names; it gets them as its first argument."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shared = [_parameter(name) for name in names]

        def called(**given: Any) -> None:
            said = Said(**{name: given.pop(name) for name in names})
            command(said, **given)

        called.__name__, called.__doc__ = command.__name__, command.__doc__
        parameters = [*own, *shared]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        return called

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    kind, default = OPTIONS[name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
