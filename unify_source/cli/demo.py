"""The sandbox from the command line, and the demonstration that loads it."""

from __future__ import annotations

import errno
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unify_source.errors import ConfigurationError

if TYPE_CHECKING:
    from unify_source.cli.console import Screen

PIPELINE = "unify_demo"
DEMO_FILE = f"{PIPELINE}.duckdb"

QUESTION = "Which sequences get the most replies per enrollment?"
QUERY = """
SELECT s.name AS sequence,
       count(*) AS enrollments,
       count(r.id) AS replies,
       round(100.0 * count(r.id) / count(*), 1) AS "reply rate %"
FROM unify.enrollments e
JOIN unify.sequences s ON s.id = e.sequence_id
LEFT JOIN unify.reply_email_messages r ON r.enrollment_id = e.id
GROUP BY ALL
ORDER BY count(r.id) / count(*) DESC, sequence
LIMIT 5
"""


def run_demo(screen: Screen, enrollments: int) -> None:
    """Load a sandbox of that many enrollments into `unify_demo.duckdb` and show the result."""
    sandbox = _sandbox()
    from unify_source.cli.pipeline import open_pipeline
    from unify_source.load.packages import row_counts
    from unify_source.runs.sync import sync

    # The demo shows a first load; on the file of an earlier one it would say that nothing changed.
    Path(DEMO_FILE).unlink(missing_ok=True)
    screen.note(f"Starting the sandbox: a local API with {enrollments:,} enrollments.")
    with (
        tempfile.TemporaryDirectory() as folder,
        sandbox.Sandbox(sandbox.Account(enrollments)) as api,
    ):
        pipeline = open_pipeline(
            PIPELINE, "duckdb", "unify", pipelines_dir=folder, progress=screen.progress
        )
        report = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        screen.note(report.as_lines()[0])
        again = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        screen.note(f"And once more: {again.as_lines()[0]}")
        counts = row_counts(pipeline)
    screen.table("Tables", ["table", "rows"], [[n, f"{c:,}"] for n, c in counts.items()])
    screen.table(QUESTION, *_answer())
    screen.result({**report.as_json(), "file": DEMO_FILE}, _next_commands())


def _answer() -> tuple[list[str], list[list[str]]]:
    import duckdb

    with duckdb.connect(DEMO_FILE, read_only=True) as connection:
        result = connection.execute(QUERY)
        headers = [column[0] for column in result.description]
        return headers, [[str(value) for value in row] for row in result.fetchall()]


def _next_commands() -> list[str]:
    # With the Python that runs this: the command may not be on the path, nor DuckDB's own.
    python = _python()
    count = "SELECT status, count(*) FROM unify.enrollments GROUP BY ALL"
    show = f"import duckdb; db = duckdb.connect('{DEMO_FILE}'); db.sql('{count}').show()"
    return [
        f"The tables are in {DEMO_FILE}, schema unify. Look at them:",
        f"  {python} -m unify_source status --pipeline-name {PIPELINE}",
        f'  {python} -c "{show}"',
    ]


def _python() -> str:
    """Return how a shell in this folder calls the Python that runs this."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.quote(str(python))


def run_sandbox(
    screen: Screen,
    *,
    enrollments: int,
    seed: int,
    faults: list[str],
    drift: str | None,
    **options: Any,
) -> None:
    """Serve the sandbox until it is interrupted; `faults` are KIND or KIND:RATE."""
    sandbox = _sandbox()
    with _port_free(options["port"]):
        sandbox.serve(
            sandbox.Account(enrollments, seed=seed),
            announce=lambda url: screen.note(_welcome(url, options["key"])),
            faults=[_fault(sandbox, text) for text in faults],
            reshape=sandbox.DRIFTS[drift] if drift else None,
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
            "Choose another one with --port; with --port 0 the sandbox finds one that is free.",
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
