"""A finished run as JSON or as plain lines. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_NOTHING = {
    "sync": "Nothing changed since the last run",
    "backfill": "Nothing was updated in that range",
}


@dataclass(frozen=True)
class Report:
    """What one run did: `enrollments` were written, each counted once, in `seconds` in all."""

    command: str
    pipeline: str
    destination: str
    dataset: str
    enrollments: int = 0
    requests: int = 0
    seconds: float = 0.0
    cursor: datetime | None = None
    quarantined: int = 0
    resumed_from: datetime | None = None
    is_in_future: bool = False

    @property
    def rows_per_second(self) -> float:
        """Enrollments written per second, over the whole run."""
        return self.enrollments / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        said = {**asdict(self), "rows_per_second": round(self.rows_per_second)}
        if self.command != "backfill":
            del said["resumed_from"], said["is_in_future"]
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in said.items()
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences, the result first."""
        took = f"{self.requests:,} requests, {self.seconds:.1f} s"
        if self.enrollments:
            where = f"{self.destination}, dataset {self.dataset}"
            speed = f"{self.rows_per_second:,.0f} rows/s"
            lines = [f"{self.enrollments:,} enrollments loaded into {where} ({took}, {speed})."]
        elif self.is_in_future:
            lines = [f"That range lies in the future: there is nothing to load yet ({took})."]
        else:
            lines = [f"{_NOTHING[self.command]} ({took})."]
        if self.resumed_from:
            where = f"from {self.resumed_from.isoformat()}, where an earlier run had come to"
            lines.append(f"It went on {where}; --restart begins anew.")
        if self.cursor and self.command == "sync":
            lines.append(f"Data is current to {self.cursor.isoformat()}.")
        if self.quarantined:
            lines.append(self.quarantine_line())
        return lines

    def quarantine_line(self) -> str:
        """Say what is in quarantine."""
        return (
            f"{self.quarantined:,} rows are in enrollments_quarantine: the API sent them"
            " otherwise than it promises. Their reasons stand beside them."
        )
