"""`status`: shows what a dataset holds and how fresh it is; writes and creates nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt

from unify_source.common.dlt_seam import looking_at
from unify_source.common.resources import QUARANTINE
from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.locks.turns import opened_file, seconds_to_wait
from unify_source.destinations.stored.history import last_loads
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import refuse_unsafe
from unify_source.load.configuration.lookup import configured_account
from unify_source.load.ledger.reading import Runs, last_runs
from unify_source.load.packages import cursor, row_counts
from unify_source.load.state.checked import refuse_other_accounts

LOADS_SHOWN = 5
_STATES = {0: "loaded"}


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
    runs: Runs = field(default_factory=Runs)

    @property
    def behind(self) -> timedelta | None:
        """How far the cursor is behind this machine's clock."""
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
            **self.runs.as_json(),
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
            return [where, "No enrollment has been loaded yet.", *self.runs.as_lines()]
        current = f"Data is current to {self.cursor.isoformat()}"
        lines = [where, f"{current}, {length_of(self.behind)} behind."]
        if self.loads:
            ago = length_of(self.now - self.loads[0][0])
            lines.append(f"The last load that wrote rows finished {ago} ago.")
        if held := self.rows.get(QUARANTINE.name):
            lines.append(f"{held:,} rows are in quarantine; see table enrollments_quarantine.")
        return [*lines, *self.runs.as_lines()]

    def row_grid(self) -> list[list[str]]:
        """Return table and rows, as text."""
        return [[name, f"{count:,}"] for name, count in self.rows.items()]

    def load_grid(self) -> list[list[str]]:
        """Return the last loads, as text."""
        return [[at.isoformat(timespec="seconds"), load, state] for at, load, state in self.loads]


def status(
    pipeline: dlt.Pipeline,
    *,
    account: str | None = None,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
) -> Status:
    """Read the state and the tables' sizes from the destination, and change nothing.

    In a dataset of several accounts, only those of `account`. Waits up to `lock_timeout` seconds
    for a DuckDB file that another process has open: DuckDB allows no other reader then. Raises a
    UnifyError.
    """
    with explained(pipeline):
        seconds = seconds_to_wait(lock_timeout)
        refuse_unsafe(pipeline)
        account = configured_account(pipeline, account)
        database = duckdb_database(pipeline)
        # Opening a file that is missing would create it.
        if database and not database.has_content:
            return _status(pipeline)
        with looking_at(pipeline) as looking, opened_file(looking, seconds):
            looking.sync_destination()
            refuse_other_accounts(looking, account)
            return _status(
                pipeline,
                cursor=cursor(looking, account=account),
                rows=row_counts(looking, account=account),
                loads=[
                    (at, load, _STATES.get(state, "unfinished"))
                    for at, load, state in last_loads(looking.destination_client(), LOADS_SHOWN)
                ],
                runs=last_runs(looking, account),
            )


def length_of(span: timedelta) -> str:
    """Return a duration in words, such as 3 minutes."""
    seconds = max(0, round(span.total_seconds()))
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _status(pipeline: dlt.Pipeline, **facts: Any) -> Status:
    return Status(
        pipeline=pipeline.pipeline_name,
        destination=pipeline.destination.destination_name,
        dataset=pipeline.dataset_name,
        now=datetime.now(timezone.utc),
        **{"cursor": None, **facts},
    )
