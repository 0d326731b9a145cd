"""The result of a comparison, as JSON or as plain lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

EQUAL, DIFFERENT = "equal", "different"
EXIT_DIFFERENT = 4
_MOST_DAYS = 10


@dataclass(frozen=True)
class Group:
    """The differences of one kind in one table on one day of `updated_at`, with some of the ids.

    `day` is None if it is unknown when the rows were updated.
    """

    table: str
    kind: str
    day: date | None
    count: int
    examples: tuple[str, ...]

    def as_line(self) -> str:
        """Return the group as a line below its table."""
        day = f"{self.day}: " if self.day else ""
        rest = ", …" if self.count > len(self.examples) else ""
        return f"  {day}{self.count:,} {self.kind}: {', '.join(self.examples)}{rest}"


@dataclass(frozen=True)
class Verified:
    """The outcome of `verify`: how many rows differ, by table and kind, and how many were repaired.

    The API's list has `compared` rows, of which `quarantined` cannot be read as promised. `groups`
    has the differences by day.
    """

    dataset: str
    tables: dict[str, dict[str, int]]
    compared: int = 0
    quarantined: int = 0
    repaired: int = 0
    requests: int = 0
    seconds: float = 0.0
    groups: tuple[Group, ...] = field(default=())
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> int:
        """How many rows differ, in all tables."""
        return sum(sum(kinds.values()) for kinds in self.tables.values())

    @property
    def verdict(self) -> str:
        """Whether the tables equal the API, after any repair."""
        return DIFFERENT if self.differences else EQUAL

    @property
    def exit_code(self) -> int:
        """The exit code of the command.

        Rows in quarantine are not differences: `sync` reports them, with a code of its own.
        """
        return EXIT_DIFFERENT if self.differences else 0

    def after_repair_of(self, before: Verified) -> Verified:
        """Return this outcome with the rows that were repaired since an earlier one."""
        return replace(
            self,
            repaired=before.repaired + max(before.differences - self.differences, 0),
            seconds=before.seconds + self.seconds,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as `--json` prints it."""
        return {
            "verdict": self.verdict,
            "tables": self.tables,
            "quarantined": self.quarantined,
            "repaired": self.repaired,
        }

    def as_lines(self) -> list[str]:
        """Return the outcome as plain sentences, the verdict first."""
        took = f"{self.compared:,} enrollments, {self.requests:,} requests, {self.seconds:.1f} s"
        many = f"{self.differences:,} row{'s differ' if self.differences > 1 else ' differs'}"
        verdict = f"{many} from the API" if self.differences else "The tables equal the API"
        lines = [f"{verdict} ({took})."]
        if self.repaired:
            lines.append(f"{self.repaired:,} differences were repaired.")
        for table, kinds in self.tables.items():
            lines += self._lines_of(table, kinds)
        if self.quarantined:
            lines.append(
                f"{self.quarantined:,} rows cannot be read as the API documents them, and are not"
                " compared: see enrollments_quarantine."
            )
        return [*lines, *self.notes]

    def _lines_of(self, table: str, kinds: dict[str, int]) -> Iterator[str]:
        counts = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
        if not counts:
            return
        yield f"{table}: {', '.join(counts)}."
        groups = [group for group in self.groups if group.table == table]
        yield from (group.as_line() for group in groups[:_MOST_DAYS])
        if len(groups) > _MOST_DAYS:
            yield f"  and more days: see unify_verify_differences in dataset {self.dataset}."
