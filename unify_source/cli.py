"""Words in, exit code out: the command `unify-source`."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

import unify_source
from unify_source.errors import UnifyError
from unify_source.options import LOADING, READING, SHOWING, Said, taking

if TYPE_CHECKING:
    import dlt

    from unify_source.console import Screen
    from unify_source.report import Report

FAILED, QUARANTINED = 1, 3
# M_ARENA_MAX of glibc's malloc.h.
_MOST_HEAPS = -8

AcceptQuarantine = Annotated[
    bool, typer.Option("--accept-quarantine", help="End with 0 even if rows are in quarantine.")
]

app = typer.Typer(
    name="unify-source",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with demo (no key needed), then check, then sync.",
)


@app.callback(invoke_without_command=True)
def _(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Unify sequence enrollments in your own warehouse: complete, typed, incremental."""
    if version:
        typer.echo(f"unify-source {unify_source.__version__}")
        raise typer.Exit


@app.command()
@taking(*LOADING)
def sync(
    said: Said,
    *,
    accept_quarantine: Annotated[
        bool,
        typer.Option("--accept-quarantine", help="End with 0 although rows are in quarantine."),
    ] = False,
) -> None:
    """Load all that changed since the last run; the first run loads everything.

    The API key is read from the environment, UNIFY_API_KEY, or from .dlt/secrets.toml.
    """
    with _screen(said) as screen:
        from unify_source.run import sync as run_sync

        pipeline = _pipeline(said, screen)
        report = run_sync(pipeline, lock_timeout=said.lock_timeout, **said.settings)
        _end(said, screen, report, accept_quarantine=accept_quarantine)


@app.command()
@taking(*LOADING)
def backfill(
    said: Said,
    *,
    since: Annotated[
        str, typer.Option("--from", help="A date or an RFC 3339 time; without an offset UTC.")
    ],
    until: Annotated[str | None, typer.Option("--to", help="Likewise; now, unless set.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show windows and time; load nothing.")] = (
        False
    ),
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Load the newest window first.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on.")
    ] = False,
    accept_quarantine: Annotated[
        bool,
        typer.Option("--accept-quarantine", help="End with 0 although rows are in quarantine."),
    ] = False,
) -> None:
    """Reload what was updated in a range of time, apart from the cursor of sync.

    Stopped and started again with the same range it goes on where it was.
    """
    with _screen(said) as screen:
        from unify_source.plan import plan as run_plan
        from unify_source.run import backfill as run_backfill

        if plan:
            planned = run_plan(since, until, **said.settings)
            screen.result(planned.as_json(), planned.as_lines())
            return
        report = run_backfill(
            _pipeline(said, screen),
            since,
            until,
            newest_first=newest_first,
            restart=restart,
            lock_timeout=said.lock_timeout,
            **said.settings,
        )
        _end(said, screen, report, accept_quarantine=accept_quarantine)


@app.command()
@taking(*READING)
def check(said: Said) -> None:
    """Check the key, the clock and the destination, before any load."""
    with _screen(said) as screen:
        from unify_source.health import check as run_check

        found = run_check(_pipeline(said), lock_timeout=said.lock_timeout)
        screen.result(found.as_json(), found.as_lines())


@app.command()
@taking(*READING)
def status(said: Said) -> None:
    """Show the cursor, the last loads, the rows per table and how far behind the data is."""
    with _screen(said) as screen:
        from unify_source.health import status as run_status

        found = run_status(_pipeline(said), lock_timeout=said.lock_timeout)
        screen.result(found.as_json(), found.as_lines())
        screen.table("Rows", ["table", "rows"], found.row_grid())
        screen.table("Last loads", ["finished", "load", "state"], found.load_grid())


@app.command()
@taking(*SHOWING)
def demo(
    said: Said,
    *,
    enrollments: Annotated[int, typer.Option(min=1, help="How many the sandbox holds.")] = 20_000,
) -> None:
    """Load the sandbox into DuckDB and answer a question from it; no key needed."""
    with _screen(said) as screen:
        from unify_source.demo import run_demo

        run_demo(screen, enrollments)


@app.command()
def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 finds a free one.")] = 8100,
    enrollments: Annotated[int, typer.Option(min=0, help="How many it holds.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 1,
    key: Annotated[str, typer.Option(help="The API key it accepts.")] = "sandbox-key",
    order: Annotated[
        str, typer.Option(help="How it lists: updated, updated_desc, created or id.")
    ] = "updated",
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each answer.")] = 0.0,
    changes_per_second: Annotated[
        float, typer.Option(min=0, help="Live mode: enrollments change while it runs.")
    ] = 0.0,
    rate_limit: Annotated[
        float | None, typer.Option(min=0.1, help="Requests a second; beyond it answers 429.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="KIND or KIND:RATE, such as 429:0.01 or cut_within:0.005."),
    ] = None,
    drift: Annotated[
        str | None, typer.Option(help="new-fields, changed-types or page-example.")
    ] = None,
) -> None:
    """Run the local API on this machine: to try, to test and to reproduce."""
    with _screen(Said()):
        from unify_source.demo import run_sandbox

        run_sandbox(
            enrollments=enrollments,
            seed=seed,
            faults=fault or [],
            drift=drift,
            port=port,
            key=key,
            order=order,
            latency=latency,
            changes_per_second=changes_per_second,
            rate_limit=rate_limit,
        )


def main() -> None:
    """Run the command line: the exit code is the contract's."""
    # Both are read when dlt and Arrow are imported; dlt reports usage unless told not to.
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    # Arrow's own pools are no faster here, and hold on to a third more memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # glibc gives each thread a heap of its own, and they hold on to half as much again.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_MOST_HEAPS, 2)
    app()


def _end(said: Said, screen: Screen, report: Report, *, accept_quarantine: bool) -> None:
    screen.result(report.as_json(), report.as_lines())
    if report.quarantined and not accept_quarantine:
        if said.quiet:
            screen.warn(report.quarantine_line())
        raise typer.Exit(QUARANTINED)


@contextmanager
def _screen(said: Said) -> Iterator[Screen]:
    from unify_source.console import Screen

    os.environ.setdefault("RUNTIME__LOG_LEVEL", "INFO" if said.verbose else "CRITICAL")
    logging.getLogger("unify_source").setLevel(logging.ERROR if said.quiet else logging.WARNING)
    screen = Screen(as_json=said.json, quiet=said.quiet)
    try:
        yield screen
    except UnifyError as error:
        if said.verbose:
            from unify_source.trouble import without_passwords

            sys.stderr.write(without_passwords(traceback.format_exc()))
        screen.error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        screen.error(UnifyError("Stopped.", "Nothing is lost: run it again, it goes on from here."))
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - whoever read has gone
        raise typer.Exit(FAILED) from None


def _pipeline(said: Said, screen: Screen | None = None) -> dlt.Pipeline:
    from unify_source.pipelines import open_pipeline
    from unify_source.trouble import explained

    with explained():
        return open_pipeline(
            said.pipeline_name,
            said.destination,
            said.dataset,
            progress=screen.progress() if screen else None,
        )
