"""What can be told without loading: `check` before the first run, `status` after any."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
from dlt.common.runtime.signals import raise_if_signalled

from unify_source.api.client import Client
from unify_source.destinations.contents import last_loads
from unify_source.destinations.lock import LOCK_TIMEOUT, Turns
from unify_source.errors import ConfigurationError
from unify_source.load.configuration import configured
from unify_source.load.dlt_errors import explained
from unify_source.load.packages import cursor, row_counts, start_over
from unify_source.resources import ENROLLMENT_LIST, QUARANTINE
from unify_source.settings import Settings

CLOCK_TOLERANCE = timedelta(seconds=60)
LOADS_SHOWN = 5
_STATES = {0: "loaded"}


@dataclass(frozen=True)
class Checked:
    """What `check` found: all of it was in order, or an error would have been raised."""

    base_url: str
    clock_off_by: timedelta
    destination: str
    dataset: str

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "key": "valid",
            "base_url": self.base_url,
            "clock_off_by_seconds": round(self.clock_off_by.total_seconds()),
            "destination": self.destination,
            "dataset": self.dataset,
            "writable": True,
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        off = round(abs(self.clock_off_by.total_seconds()))
        return [
            f"The key is valid at {self.base_url}.",
            f"This machine's clock and the server's differ by {off} s.",
            f"{self.destination} can be written, dataset {self.dataset}.",
        ]


@dataclass(frozen=True)
class Status:
    """What a dataset holds and how fresh it is.

    `loads` are (finished, load id, state), the newest first.
    """

    pipeline: str
    destination: str
    dataset: str
    cursor: datetime | None
    now: datetime
    rows: dict[str, int] = field(default_factory=dict)
    loads: list[tuple[datetime, str, str]] = field(default_factory=list)

    @property
    def behind(self) -> timedelta | None:
        """The time from the newest change that was loaded until now."""
        return self.now - self.cursor if self.cursor else None

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "pipeline": self.pipeline,
            "destination": self.destination,
            "dataset": self.dataset,
            "cursor": self.cursor.isoformat() if self.cursor else None,
            "behind_seconds": int(self.behind.total_seconds()) if self.behind else None,
            "last_loaded_at": self.loads[0][0].isoformat() if self.loads else None,
            "rows": self.rows,
            "quarantined": self.rows.get(QUARANTINE.name, 0),
            "loads": [
                {"finished": at.isoformat(), "load_id": load, "state": state}
                for at, load, state in self.loads
            ],
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        if not self.rows:
            return [
                f"Nothing has been loaded yet into {self.destination}, dataset {self.dataset}.",
                "Run unify-source sync.",
            ]
        where = f"Pipeline {self.pipeline}, {self.destination}, dataset {self.dataset}."
        if self.cursor is None or self.behind is None:
            return [where, "No enrollment has been loaded yet."]
        newest = f"The newest change that was loaded is of {self.cursor.isoformat()}"
        lines = [where, f"{newest}, {_length(self.behind)} ago."]
        if self.loads:
            ended = _length(self.now - self.loads[0][0])
            lines.append(f"The last load that wrote rows ended {ended} ago.")
        if held := self.rows.get(QUARANTINE.name):
            lines.append(f"{held:,} rows are in quarantine: see enrollments_quarantine.")
        return lines

    def row_grid(self) -> list[list[str]]:
        """Return table and rows, as text."""
        return [[name, f"{count:,}"] for name, count in self.rows.items()]

    def load_grid(self) -> list[list[str]]:
        """Return the last loads, as text."""
        return [[at.isoformat(timespec="seconds"), load, state] for at, load, state in self.loads]


def check(
    pipeline: dlt.Pipeline, *, lock_timeout: float = LOCK_TIMEOUT, **settings: Any
) -> Checked:
    """Ask the API for its clock and the destination for its schema.

    Raises KeyRefused, an ApiError, ConfigurationError for a clock that is off, or LoadFailed.
    """
    with explained():
        said: Settings = configured(**settings)
        server = Client(said, raise_if_signalled).server_time(ENROLLMENT_LIST)
        off = datetime.now(timezone.utc) - server
        if abs(off) > CLOCK_TOLERANCE:
            side = "ahead of" if off > timedelta(0) else "behind"
            raise ConfigurationError(
                f"This machine's clock is {_length(abs(off))} {side} the server's.",
                "Set it (for example with NTP): certificates and schedules depend on it.",
            )
        with Turns(pipeline, lock_timeout).turn(), pipeline.destination_client() as client:
            client.initialize_storage()
        return Checked(
            said.base_url, off, pipeline.destination.destination_name, pipeline.dataset_name
        )


def status(pipeline: dlt.Pipeline, *, lock_timeout: float = LOCK_TIMEOUT) -> Status:
    """Read the state and the tables' sizes from the destination. Raises a UnifyError."""
    with explained(), Turns(pipeline, lock_timeout).turn():
        start_over(pipeline)
        return Status(
            pipeline=pipeline.pipeline_name,
            destination=pipeline.destination.destination_name,
            dataset=pipeline.dataset_name,
            cursor=cursor(pipeline),
            now=datetime.now(timezone.utc),
            rows=row_counts(pipeline),
            loads=[
                (at, load, _STATES.get(state, "unfinished"))
                for at, load, state in last_loads(pipeline, LOADS_SHOWN)
            ],
        )


def _length(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
