"""Windows that a run could not read without a gap, for the next run to read again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from unify_source.common.times import kept_instant, rfc3339
from unify_source.extract.window import Window, begin, joined

WARNING = (
    "Rows changed so fast that others may have been skipped, in %d ranges of time. The next sync"
    " reads them again."
)
_VERSION = 1
# The whole state is written into the destination, so beyond this the nearest windows are joined.
_MOST = 50


@dataclass(frozen=True)
class Unsettled:
    """Windows to read again, oldest first; no two of them touch."""

    windows: tuple[Window, ...] = ()

    @classmethod
    def of(cls, windows: Iterable[Window]) -> Unsettled:
        """Join windows that touch, and the nearest of too many."""
        apart = joined(windows)
        while len(apart) > _MOST:
            gaps = [begin(newer) - older.before for older, newer in pairwise(apart)]
            nearest = gaps.index(min(gaps))
            older, newer = apart[nearest : nearest + 2]
            apart[nearest : nearest + 2] = [Window(older.after, newer.before)]
        return cls(tuple(apart))

    @classmethod
    def from_state(cls, state: Any) -> Unsettled:
        """Read what `to_state` wrote; nothing where there is none, as in old states."""
        if not state:
            return cls()
        ends = [[kept_instant(at) if at else None for at in pair] for pair in state["windows"]]
        return cls.of(Window(after, before) for after, before in ends if before)

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON; empty where there is nothing to keep."""
        ends = [
            [rfc3339(each.after) if each.after else None, rfc3339(each.before)]
            for each in self.windows
        ]
        return {"version": _VERSION, "windows": ends} if ends else {}
