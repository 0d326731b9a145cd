"""`report`: writes the page into one file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException

from unify_source.analysis.files import part_of
from unify_source.analysis.report.answers import Answers, read
from unify_source.analysis.report.page import rendered
from unify_source.analysis.views import client_of, make_models
from unify_source.settings import LOCK_TIMEOUT

FILE = "unify_report.html"


@dataclass(frozen=True)
class Reported:
    """Where the page is, and how many bytes it has."""

    file: Path
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {"command": "report", "file": str(self.file), "bytes": self.size}

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        return [f"The report is {self.file} ({self.size // 1000:,} kB). Open it in a browser."]


def report(
    pipeline: dlt.Pipeline,
    file: Path | str = FILE,
    *,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
) -> Reported:
    """Write one HTML file that shows what the models answer, and needs nothing else to be read.

    Makes the models where they are missing. An older file of that name is replaced once the new one
    is whole. Raises ConfigurationError for what cannot be, LockHeld, or another UnifyError.
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
            # The views are missing, or an older version made them.
            pass
    # After the file was closed: `make_models` takes the turn and opens it for itself. What ails the
    # database rather than the views is raised by it, or by the second try.
    make_models(pipeline, lock_timeout=lock_timeout)
    with client_of(pipeline, lock_timeout) as client:
        return read(client)
