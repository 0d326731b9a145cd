"""`report`: writes the page to one file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException

from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.runs.analysis.files import part_of
from unify_source.runs.analysis.report.answers import Answers, read
from unify_source.runs.analysis.report.page import rendered
from unify_source.runs.analysis.views import client_of, make_models

FILE = "unify_report.html"


@dataclass(frozen=True)
class Reported:
    """The file of the page, and its size in bytes."""

    file: Path
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return {"command": "report", "file": str(self.file), "bytes": self.size}

    def as_lines(self) -> list[str]:
        """Return the result as plain sentences."""
        return [f"The report is {self.file} ({self.size // 1000:,} kB). Open it in a browser."]


def report(
    pipeline: dlt.Pipeline,
    file: Path | str = FILE,
    *,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
) -> Reported:
    """Write one HTML file, complete in itself, that shows what the models answer.

    Creates the models if they are missing. The file replaces an older one only once it is complete.
    Raises ConfigurationError for an invalid argument, LockHeld, or another UnifyError.
    """
    target = Path(file)
    now = datetime.now(timezone.utc)
    page = rendered(_answers(pipeline, lock_timeout), pipeline.dataset_name, now).encode()
    with part_of(target) as part:
        part.write_bytes(page)
    return Reported(target, len(page))


def _answers(pipeline: dlt.Pipeline, lock_timeout: float | str) -> Answers:
    with client_of(pipeline, lock_timeout) as client:
        try:
            return read(client)
        except DatabaseException:
            # The views are missing, or are those of an older version.
            pass
    # Only now that the file is closed: `make_models` locks and opens it itself. An error of the
    # database, rather than of the views, is raised there or by the second read.
    make_models(pipeline, lock_timeout=lock_timeout)
    with client_of(pipeline, lock_timeout) as client:
        return read(client)
