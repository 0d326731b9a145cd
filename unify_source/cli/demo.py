"""The commands `demo` and `sandbox`."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unify_source.cli.options import SHOWING, Options, taking
from unify_source.cli.process import screen_of
from unify_source.common.errors import ConfigurationError
from unify_source.common.temporary import temporary_folder

if TYPE_CHECKING:
    from unify_source.cli.console import Screen

PIPELINE = "unify_demo"
DEMO_FILE = f"{PIPELINE}.duckdb"
REPORT_FILE = f"{PIPELINE}_report.html"

QUESTION = "Which sequences do people reply to?"
QUERY = """
SELECT sequence_name, delivered, human_replies, human_reply_percent
FROM unify_models.sequence_funnel
ORDER BY human_reply_percent DESC NULLS LAST, sequence_name
LIMIT 5
"""


@click.command()
@click.option(
    "--enrollments", default=20_000, type=click.IntRange(1), help="Enrollments in the sandbox."
)
@taking(*SHOWING)
def demo(options: Options, *, enrollments: int) -> None:
    """Load made-up data into DuckDB and query it; no key needed."""
    with screen_of(options, "Starting") as screen:
        _run_demo(screen, enrollments)


@click.command()
@click.option("--port", default=8100, type=click.IntRange(0, 65535), help="0 finds a free one.")
@click.option(
    "--enrollments", default=20_000, type=click.IntRange(0), help="How many enrollments it has."
)
@click.option("--seed", default=1, help="The same seed makes the same data.")
@click.option("--key", default="sandbox-key", help="The API key it accepts.")
@click.option(
    "--order",
    default="updated",
    type=click.Choice(("updated", "updated_desc", "created", "id")),
    help="The order of its lists.",
)
@click.option(
    "--cursor",
    default="keyset",
    type=click.Choice(("keyset", "offset")),
    help="What a page cursor contains: the last row's key, or the number of rows before. With an"
    " offset, rows that move between two requests make others appear twice or not at all.",
)
@click.option(
    "--latency", default=0.0, type=click.FloatRange(0, 3600), help="Seconds before each response."
)
@click.option(
    "--changes-per-second",
    default=0.0,
    type=click.FloatRange(0, 10_000),
    help="Live mode: enrollments and sequences change while it runs.",
)
@click.option(
    "--rate-limit", type=click.FloatRange(0.1), help="Requests per second; above, it answers 429."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    help="KIND or KIND:RATE, such as 429:0.01 or cut_within:0.005; may be repeated.",
)
@click.option(
    "--drift",
    type=click.Choice(("new-fields", "changed-types", "page-example")),
    help="How its enrollments differ from what the API promises.",
)
def sandbox(**options: Any) -> None:
    """Serve made-up data from a local API, to try things and to test."""
    with screen_of(Options()) as screen:
        _run_sandbox(screen, **options)


def _run_demo(screen: Screen, enrollments: int) -> None:
    local = _sandbox()
    from unify_source.cli.pipeline import open_pipeline
    from unify_source.load.packages import row_counts
    from unify_source.runs.analysis.report.report import report as make_report
    from unify_source.runs.analysis.views import make_models
    from unify_source.runs.sync import sync

    # The demo shows a first load; into the file of an earlier demo, nothing would have changed.
    Path(DEMO_FILE).unlink(missing_ok=True)
    screen.note(f"Starting the sandbox: a local API with {enrollments:,} enrollments.")
    with (
        temporary_folder() as folder,
        local.Sandbox(local.Account(enrollments)) as api,
    ):
        pipeline = open_pipeline(
            PIPELINE, "duckdb", "unify", pipelines_dir=folder, progress=screen.progress
        )
        report = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        screen.note(report.as_lines()[0])
        again = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        screen.note(f"And once more: {again.as_lines()[0]}")
        screen.progress.begin("Making the models and the report")
        counts = row_counts(pipeline)
        models = make_models(pipeline)
        make_report(pipeline, REPORT_FILE)
    screen.table("Tables", ["table", "rows"], [[n, f"{c:,}"] for n, c in counts.items()])
    screen.table("Models", ["model", "what it holds"], models.grid())
    screen.table(QUESTION, *_answer())
    screen.result({**report.as_json(), "file": DEMO_FILE, "report": REPORT_FILE}, _next_commands())


def _answer() -> tuple[list[str], list[list[str]]]:
    import duckdb

    with duckdb.connect(DEMO_FILE, read_only=True) as connection:
        result = connection.execute(QUERY)
        headers = [column[0] for column in result.description]
        return headers, [
            ["" if value is None else str(value) for value in row] for row in result.fetchall()
        ]


def _next_commands() -> list[str]:
    # With this Python: neither unify-source nor the DuckDB shell may be on the path.
    python = _python()
    weeks = "SELECT week, delivered, human_reply_percent, is_young FROM unify_models.cohort_weekly"
    show = f"duckdb.connect('{DEMO_FILE}').sql('{weeks} ORDER BY week DESC').show()"
    return [
        f"The report is {REPORT_FILE}: open it in a browser.",
        f"The tables are in {DEMO_FILE}, schema unify, the models in unify_models. Look at them:",
        f"  {python} -m unify_source status --pipeline-name {PIPELINE}",
        f'  {python} -c "import duckdb; {show}"',
    ]


def _python() -> str:
    """Return the path, as a shell in this folder needs it, of the Python that runs this."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.quote(str(python))


def _run_sandbox(
    screen: Screen,
    *,
    enrollments: int,
    seed: int,
    faults: list[str],
    drift: str | None,
    **options: Any,
) -> None:
    """Serve the sandbox until it is interrupted; `faults` are KIND or KIND:RATE."""
    local = _sandbox()
    with _port_free(options["port"]):
        local.serve(
            local.Account(enrollments, seed=seed),
            announce=lambda url: screen.note(_welcome(url, options["key"])),
            faults=[_fault(local, text) for text in faults],
            reshape=local.DRIFTS[drift] if drift else None,
            **options,
        )


@contextmanager
def _port_free(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ConfigurationError(
            f"Port {port} is {'taken' if error.errno == errno.EADDRINUSE else 'not allowed'}.",
            "Choose another with --port; --port 0 finds a free one.",
        ) from None


def _welcome(url: str, key: str) -> str:
    return (
        f"The sandbox listens on {url}; stop it with Ctrl-C. In another shell:\n\n"
        f"  export SOURCES__UNIFY__BASE_URL={url} UNIFY_API_KEY={key}\n"
        "  unify-source sync\n"
    )


def _fault(sandbox: Any, text: str) -> Any:
    kind, _, rate = text.partition(":")
    try:
        return sandbox.Fault(kind, rate=float(rate or 1))
    except ValueError:
        raise ConfigurationError(
            f"--fault is {text!r}.", "Write a kind and a rate from 0 to 1, such as 429:0.01."
        ) from None


def _sandbox() -> Any:
    try:
        from unify_source import sandbox
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}, which is not installed.",
            "Install it: pip install 'unify-source[sandbox]'.",
        ) from None
    return sandbox
