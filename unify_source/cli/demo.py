"""The sandbox from the command line, and the demonstration that loads it."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unify_source.errors import ConfigurationError

if TYPE_CHECKING:
    from unify_source.cli.console import Screen

DEMO_FILE = "unify_demo.duckdb"

QUESTION = """
SELECT s.name AS sequence,
       count(*) AS enrollments,
       count(r.id) AS replies,
       round(100.0 * count(r.id) / count(*), 1) AS "reply rate %"
FROM unify.enrollments e
JOIN unify.sequences s ON s.id = e.sequence_id
LEFT JOIN unify.reply_email_messages r ON r.enrollment_id = e.id
GROUP BY ALL
ORDER BY replies DESC, sequence
LIMIT 5
"""


def run_demo(screen: Screen, enrollments: int) -> None:
    """Load a sandbox of that many enrollments into `unify_demo.duckdb` and show what came of it."""
    sandbox = _sandbox()
    import duckdb

    from unify_source.cli.pipeline import open_pipeline
    from unify_source.load.packages import row_counts
    from unify_source.runs.sync import sync

    file = Path(DEMO_FILE)
    file.unlink(missing_ok=True)
    screen.note(f"Starting the sandbox: a local API with {enrollments:,} enrollments.")
    with (
        tempfile.TemporaryDirectory() as folder,
        sandbox.Sandbox(sandbox.Account(enrollments)) as api,
    ):
        pipeline = open_pipeline(
            "unify_demo", "duckdb", "unify", pipelines_dir=folder, progress=screen.progress
        )
        report = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        for line in report.as_lines()[:1]:
            screen.note(line)
        again = sync(pipeline, api_key="sandbox-key", base_url=api.url)
        screen.note(f"And once more: {again.as_lines()[0]}")
        counts = row_counts(pipeline)
    screen.table("Tables", ["table", "rows"], [[n, f"{c:,}"] for n, c in counts.items()])
    with duckdb.connect(str(file), read_only=True) as connection:
        answer = connection.execute(QUESTION)
        headers = [column[0] for column in answer.description]
        rows = [[str(value) for value in row] for row in answer.fetchall()]
    screen.table("Which sequences get replies?", headers, rows)
    screen.result(
        {**report.as_json(), "file": str(file)},
        [f"The tables are in {file}, schema unify: open it with duckdb {file}."],
    )


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
