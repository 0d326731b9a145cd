"""The command line `unify-source`: its commands, and what each calls."""

from __future__ import annotations

from typing import NoReturn

import click

import unify_source
from unify_source.cli.demo import demo, sandbox
from unify_source.cli.options import LOADING, READING, Options, taking
from unify_source.cli.process import STOPPED, finish, importing, pipeline_of, run, screen_of
from unify_source.cli.verify import verify

_PLANNING = "Sampling pages"
_NOT_FORGOTTEN = "All rows were deleted, or none. Run it again."
_NOT_MADE = "All views were created, or none. Run it again."
_NOT_EXPORTED = "The file was not written. Run it again."
_PLAN_STOPPED = "Nothing was loaded. Run it again."

_accepting = click.option(
    "--accept-quarantine", is_flag=True, help="Exit with 0 even if rows are in quarantine."
)


class InOrderOfUse(click.Group):
    """Lists its commands in the order in which they were added, which is that of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """Return the names of the commands, which click would sort."""
        return list(self.commands)


@click.group(
    name="unify-source",
    cls=InOrderOfUse,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Start with demo (no key needed), then check, then sync.",
)
@click.version_option(
    unify_source.__version__, message="%(prog)s %(version)s", prog_name="unify-source"
)
def app() -> None:
    """Load Unify's sequence enrollments into your own database, warehouse or lake."""


@app.command()
@taking(*READING)
def check(options: Options) -> None:
    """Check the key, the clock and the destination before a load."""
    with screen_of(options, "Checking the key, the clock and the destination") as screen:
        with importing():
            from unify_source.runs.check import check as run_check

        # Each line as soon as it is known, so that what passed is shown above the error.
        checked = run_check(
            pipeline_of(options),
            lock_timeout=options.lock_timeout,
            in_order=lambda line: None if options.json else screen.note(line),
        )
        screen.result(checked.as_json(), [])


@app.command()
@_accepting
@taking(*LOADING)
def sync(options: Options, *, accept_quarantine: bool) -> None:
    """Load what changed since the last run; at first, everything.

    Reads the API key from the environment variable UNIFY_API_KEY or from .dlt/secrets.toml.
    """
    with screen_of(options, "Starting") as screen:
        with importing():
            from unify_source.cli.working_folder import keep_for_dlt
            from unify_source.runs.sync import sync as run_sync

        pipeline = pipeline_of(options, screen)
        report = run_sync(pipeline, lock_timeout=options.lock_timeout, **options.settings)
        keep_for_dlt(pipeline, options.pipelines_dir)
        finish(options, screen, report, accept_quarantine=accept_quarantine)


@app.command()
@click.option(
    "--from",
    "start",
    required=True,
    help="A date or an RFC 3339 time; UTC unless it has an offset.",
)
@click.option("--to", "end", help="Likewise; a date includes that whole day. Default: now.")
@click.option("--plan", is_flag=True, help="Estimate windows and time; load nothing.")
@click.option("--newest-first", is_flag=True, help="Load the newest window first.")
@click.option("--restart", is_flag=True, help="Start over instead of resuming.")
@_accepting
@taking(*LOADING)
def backfill(
    options: Options,
    *,
    start: str,
    end: str | None,
    plan: bool,
    newest_first: bool,
    restart: bool,
    accept_quarantine: bool,
) -> None:
    """Reload a range of updated_at without moving the cursor of sync.

    If it is interrupted, run it again with the same range: it resumes where it stopped.
    """
    doing, stopped = (_PLANNING, _PLAN_STOPPED) if plan else ("Starting", STOPPED)
    with screen_of(options, doing, stopped) as screen:
        with importing():
            from unify_source.cli.working_folder import keep_for_dlt
            from unify_source.runs.backfill import backfill as run_backfill
            from unify_source.runs.plan import plan as run_plan

        if plan:
            planned = run_plan(start, end, **options.settings)
            screen.result(planned.as_json(), planned.as_lines())
            return
        pipeline = pipeline_of(options, screen)
        report = run_backfill(
            pipeline,
            start,
            end,
            newest_first=newest_first,
            restart=restart,
            lock_timeout=options.lock_timeout,
            **options.settings,
        )
        keep_for_dlt(pipeline, options.pipelines_dir)
        finish(options, screen, report, accept_quarantine=accept_quarantine)


@app.command()
@taking(*READING, "account")
def status(options: Options) -> None:
    """Show how fresh the tables are, their rows, and the last runs."""
    with screen_of(options, "Reading the destination") as screen:
        with importing():
            from unify_source.load.ledger.reading import HEADERS
            from unify_source.runs.status import status as run_status

        current = run_status(
            pipeline_of(options), lock_timeout=options.lock_timeout, **options.settings
        )
        screen.result(current.as_json(), current.as_lines())
        screen.table("Rows", ["table", "rows"], current.row_grid())
        screen.table("Last runs", HEADERS, current.runs.grid())
        screen.table("Last loads", ["finished", "load", "state"], current.load_grid())


app.add_command(verify)


@app.command()
@click.option(
    "--person", "person_id", required=True, help="The person's id, as in the table people."
)
@taking(*READING, "account")
def forget(options: Options, *, person_id: str) -> None:
    """Delete one person from every table, now and in later runs."""
    with screen_of(options, "Deleting", _NOT_FORGOTTEN) as screen:
        with importing():
            from unify_source.runs.forget import forget as run_forget

        removed = run_forget(
            pipeline_of(options), person_id, lock_timeout=options.lock_timeout, **options.settings
        )
        screen.result(removed.as_json(), removed.as_lines())


@app.command("models")
@taking(*READING)
def make_models(options: Options) -> None:
    """Create views that answer an analyst's questions.

    They go into a dataset beside that of the tables.
    """
    with screen_of(options, "Creating the views", _NOT_MADE) as screen:
        with importing():
            from unify_source.runs.analysis.views import make_models as run_models

        models = run_models(pipeline_of(options), lock_timeout=options.lock_timeout)
        screen.result(models.as_json(), models.as_lines())
        screen.table("Models", ["model", "what it holds"], models.grid())


@app.command()
@click.option("--output", default="unify_report.html", help="The file to write.")
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
@taking(*READING)
def report(options: Options, *, output: str, is_opened: bool) -> None:
    """Write a report as one HTML file, to read, print or mail."""
    with screen_of(options, "Querying the models", _NOT_EXPORTED) as screen:
        with importing():
            from unify_source.runs.analysis.report.report import report as run_report

        written = run_report(pipeline_of(options), output, lock_timeout=options.lock_timeout)
        screen.result(written.as_json(), written.as_lines())
        if is_opened:
            import webbrowser

            if not webbrowser.open(written.file.resolve().as_uri()):
                screen.warn("No browser was found to open it.")


@app.command()
@click.argument("name", metavar="TABLE|MODEL")
@click.option("--output", help="A file ending in .csv, .parquet or .xlsx. NAME.csv unless set.")
@click.option("--time-zone", default="UTC", help="The zone that times are written in.")
@taking(*READING)
def export(options: Options, *, name: str, output: str | None, time_zone: str) -> None:
    """Write a table or a model to a CSV, Parquet or XLSX file."""
    with screen_of(options, f"Reading {name}", _NOT_EXPORTED) as screen:
        with importing():
            from unify_source.runs.analysis.export import export as run_export

        written = run_export(
            pipeline_of(options),
            name,
            output,
            time_zone=time_zone,
            lock_timeout=options.lock_timeout,
        )
        screen.result(written.as_json(), written.as_lines())


app.add_command(demo)
app.add_command(sandbox)


def main() -> NoReturn:
    """Run the command line, and end the process with the documented exit code."""
    run(app)
