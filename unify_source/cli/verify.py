"""The command `verify`."""

from __future__ import annotations

import sys

import click

from unify_source.cli.options import LOADING, Options, taking
from unify_source.cli.process import importing, pipeline_of, screen_of


@click.command()
@click.option("--from", "start", help="A date or an RFC 3339 time; UTC unless it has an offset.")
@click.option("--to", "end", help="Likewise; a date includes that whole day. Default: now.")
@click.option("--repair", is_flag=True, help="Reload what differs, and delete what is gone.")
@click.option("--yes", is_flag=True, help="Delete what is gone even if it is over 5 % of a table.")
@taking(*(name for name in LOADING if name != "pipelines_dir"))
def verify(
    options: Options, *, start: str | None, end: str | None, repair: bool, yes: bool
) -> None:
    """Compare every table with the API, row by row.

    Exits with 4 if something differs and was not repaired.
    """
    with screen_of(options, "Starting") as screen:
        with importing():
            from unify_source.runs.verification.verify import verify as run_verify

        result = run_verify(
            pipeline_of(options, screen),
            start,
            end,
            repair=repair,
            yes=yes,
            lock_timeout=options.lock_timeout,
            **options.settings,
        )
        lines = result.as_lines()
        screen.result(result.as_json(), lines)
        if result.differences and options.quiet:
            screen.warn(lines[0])
        for note in result.notes if options.quiet or options.json else ():
            screen.warn(note)
        sys.exit(result.exit_code)
