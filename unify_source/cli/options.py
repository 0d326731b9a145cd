"""The options that commands share, and what was said with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

Command = Callable[..., None]

OPTIONS: dict[str, Callable[[Command], Command]] = {
    "sequence_id": click.option("--sequence-id", help="Only this sequence."),
    "person_id": click.option("--person-id", help="Only this person."),
    "mailbox_id": click.option("--mailbox-id", help="Only this mailbox."),
    "play_id": click.option("--play-id", help="Only what this play enrolled."),
    "status": click.option(
        "--status", multiple=True, help="DRAFT, IN_PROGRESS or FINISHED; may be repeated."
    ),
    "destination": click.option(
        "--destination", default="duckdb", help="Where to load: the name of a dlt destination."
    ),
    "dataset": click.option("--dataset", default="unify", help="The schema that holds the tables."),
    "pipeline_name": click.option(
        "--pipeline-name",
        default="unify_gtm",
        help="Names the state, and the DuckDB file in this folder.",
    ),
    "workers": click.option("--workers", type=int, help="Requests in flight, 8 unless set."),
    "lock_timeout": click.option(
        "--lock-timeout", default=60.0, help="Seconds to wait for another run on the dataset."
    ),
    "json": click.option("--json", is_flag=True, help="Print one JSON object on standard output."),
    "quiet": click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    "verbose": click.option("--verbose", is_flag=True, help="Log every step, show tracebacks."),
}

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
    status: tuple[str, ...] = ()
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
            "status": list(self.status) or None,
            "workers": self.workers,
        }
        return {name: value for name, value in given.items() if value is not None}


def taking(*names: str) -> Callable[[Command], Command]:
    """Give a command the shared options of these names; it gets them as its first argument."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(**given: Any) -> None:
            command(Said(**{name: given.pop(name) for name in names}), **given)

        taker: Command = called
        for name in reversed(names):
            taker = OPTIONS[name](taker)
        return taker

    return decorate
