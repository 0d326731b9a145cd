"""A finished run as JSON or as plain lines. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from unify_source.tables import TABLES

_NOTHING = {
    "sync": "Nothing changed since the last run",
    "backfill": "Nothing was updated in that range",
}


@dataclass(frozen=True)
class Report:
    """What one run did; `rows` counts what was written, by table, `seconds` the whole run."""

    command: str
    pipeline: str
    destination: str
    dataset: str
    rows: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0
    cursor: datetime | None = None
    quarantined: int = 0

    @property
    def rows_per_second(self) -> float:
        """Enrollments written per second, over the whole run."""
        return self.rows.get("enrollments", 0) / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        cursor = self.cursor.isoformat() if self.cursor else None
        return {**asdict(self), "cursor": cursor, "rows_per_second": round(self.rows_per_second)}

    def as_lines(self) -> list[str]:
        """Return it as plain sentences, the result first."""
        written = self.rows.get("enrollments", 0)
        lines = [
            f"{written:,} enrollments loaded into {self.destination}, dataset {self.dataset}"
            f" ({self.requests:,} requests, {self.seconds:.1f} s"
            + (f", {self.rows_per_second:,.0f} rows/s)." if written else ").")
            if written
            else f"{_NOTHING[self.command]} ({self.requests} requests, {self.seconds:.1f} s)."
        ]
        children = [f"{self.rows.get(t.name, 0):,} {t.name}" for t in TABLES[1:]]
        if written:
            lines.append(f"With them: {', '.join(children)}.")
        if self.cursor and self.command == "sync":
            lines.append(f"The cursor stands at {self.cursor.isoformat()}.")
        if self.quarantined:
            lines.append(
                f"{self.quarantined:,} rows are in enrollments_quarantine: the API sent them"
                " otherwise than it promises. Their reasons stand beside them."
            )
        return lines
