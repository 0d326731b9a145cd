"""Reads the last runs on a dataset from its ledger, for `status`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dlt

from unify_source.common.dlt_seam import FSClientBase
from unify_source.common.resources import LEDGER
from unify_source.common.settings.accounts import only
from unify_source.common.times import aware
from unify_source.destinations.lakes.tables import rows_of
from unify_source.destinations.stored.contents import selected
from unify_source.load.ledger.entry import SUCCEEDED

_READ, _SHOWN = 1_000, 5
# Beyond this share of the lookback, the next row may be later than all of it.
_NEAR = 0.5

# The columns that are set for every run.
_IN_JSON = ("id", "kind", "outcome", "started_at", "seconds", "rows_loaded", "requests")

Run = dict[str, Any]
"""A row of the ledger, by column."""


@dataclass(frozen=True)
class Runs:
    """The last thousand runs, the newest first."""

    rows: list[Run] = field(default_factory=list)

    @property
    def loaded_until(self) -> datetime | None:
        """The end of the newest range that a run has loaded."""
        loaded = (
            run["window_to"]
            for run in self.rows
            if run["outcome"] == SUCCEEDED and not run["verdict"]
        )
        return max(filter(None, loaded), default=None)

    @property
    def latest(self) -> Run | None:
        """The run that saw the row that was furthest behind the cursor."""
        late = [run for run in self.rows if run["latest_late_seconds"]]
        return max(late, key=lambda run: int(run["latest_late_seconds"]), default=None)

    @property
    def lookback(self) -> int:
        """The lookback, in seconds, of the newest run that loads."""
        return next((run["lookback_seconds"] for run in self.rows if not run["verdict"]), 0)

    @property
    def is_near_lookback(self) -> bool:
        """Whether a row was so late that the next one may be missed."""
        latest = self.latest
        return latest is not None and latest["latest_late_seconds"] > _NEAR * self.lookback

    def as_json(self) -> dict[str, Any]:
        """Return the last of them, and how late the latest row was."""
        return {
            "runs": [{name: _plain(run[name]) for name in _IN_JSON} for run in self.rows[:_SHOWN]],
            "latest_late_seconds": self.latest["latest_late_seconds"] if self.latest else None,
            "is_near_lookback": self.is_near_lookback,
        }

    def as_lines(self) -> list[str]:
        """Return what a person should know about them, as sentences."""
        lines = []
        if self.rows and self.rows[0]["outcome"] in ("failed", "killed"):
            error = self.rows[0]["error"]
            how = f"failed: {error}" if error else "was killed, or its machine went down"
            lines.append(f"The last run, a {self.rows[0]['kind']}, {how}.")
        if run := self.latest:
            lines.append(
                f"The latest row became visible {run['latest_late_seconds']:,} s behind the cursor,"
                f" by {run['started_at'].isoformat(timespec='seconds')}; lookback is"
                f" {self.lookback:,} s."
            )
        if self.is_near_lookback:
            lines.append(
                "That is more than half of it, and later rows are missed: raise lookback, and"
                " verify once with repair=True."
            )
        return lines

    def grid(self) -> list[list[str]]:
        """Return the last of them, as text."""
        return [
            [
                run["started_at"].isoformat(timespec="seconds"),
                run["kind"],
                run["verdict"] or run["error"] or run["outcome"],
                f"{run['rows_loaded']:,}",
                f"{run['requests']:,}",
                f"{run['seconds']:,}",
            ]
            for run in self.rows[:_SHOWN]
        ]


HEADERS = ["started", "run", "outcome", "rows", "requests", "seconds"]


def last_runs(pipeline: dlt.Pipeline, account: str | None) -> Runs:
    """Read the last runs on a pipeline's dataset, for one account or for all."""
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lake = rows_of(client, LEDGER, account)
        rows = lake.read().sort_by([("started_at", "descending")]).to_pylist() if lake else []
    else:
        names = [column.name for column in LEDGER.columns]
        newest = f"WHERE {only(account)} ORDER BY started_at DESC LIMIT {_READ}"
        stored = selected(client, LEDGER.name, ", ".join(names), newest)
        rows = [dict(zip(names, row, strict=True)) for row in stored]
    return Runs([{name: _in_utc(value) for name, value in row.items()} for row in rows[:_READ]])


def _in_utc(value: Any) -> Any:
    return aware(value) if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
