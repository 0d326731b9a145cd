"""A finished run as JSON or as plain lines. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

_NOTHING = {
    "sync": "Nothing changed since the last run",
    "backfill": "Nothing was updated in that range",
}


@dataclass(frozen=True)
class Report:
    """What one run did.

    `enrollments` counts the rows written, each once; `seconds` is the duration. `rows_by_table`
    counts rows of other tables as often as they were read. `notices` are the warnings about data
    and clocks that are also in the log; those about a column come only once.
    """

    command: str
    pipeline: str
    destination: str
    dataset: str
    enrollments: int = 0
    requests: int = 0
    seconds: float = 0.0
    cursor: datetime | None = None
    quarantined: int = 0
    notices: tuple[str, ...] = ()
    rows_by_table: dict[str, int] = field(default_factory=dict)
    resumed_from: datetime | None = None
    is_in_future: bool = False

    @property
    def rows_per_second(self) -> float:
        """Enrollments written per second, over the whole run."""
        return self.enrollments / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        values = {**asdict(self), "rows_per_second": round(self.rows_per_second)}
        if self.command != "backfill":
            del values["resumed_from"], values["is_in_future"]
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences, the result first."""
        took = f"{self.requests:,} requests, {self.seconds:.1f} s"
        if self.enrollments:
            where = f"{self.destination}, dataset {self.dataset}"
            speed = f"{self.rows_per_second:,.0f} rows/s"
            lines = [f"{self.enrollments:,} enrollments loaded into {where} ({took}, {speed})."]
        elif self.is_in_future:
            lines = [f"That range lies in the future: nothing to load yet ({took})."]
        else:
            lines = [f"{_NOTHING[self.command]} ({took})."]
        if self.resumed_from:
            since = self.resumed_from.isoformat()
            lines.append(
                f"Resumed from {since}, where an earlier run stopped; restart=True starts over."
            )
        if self.cursor and self.command == "sync":
            lines.append(f"Data is current to {self.cursor.isoformat()}.")
        if self.quarantined:
            lines.append(self.quarantine_line())
        return lines

    def quarantine_line(self) -> str:
        """Return how many rows are in quarantine, and where to read why."""
        rows = "1 row is" if self.quarantined == 1 else f"{self.quarantined:,} rows are"
        return (
            f"{rows} in enrollments_quarantine because they break the API's documentation:"
            " see the columns reason and raw."
        )
