"""Cursor to closed window, window to slices. Pure: instants in, instants out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import pairwise

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TICK = timedelta(microseconds=1)

# What one page too many costs against what an idle worker gains; measured at 0 and 50 ms.
FEWEST_PAGES = 6
MOST_PAGES = 100
_SAMPLED_PAGES = 3


@dataclass(frozen=True)
class Window:
    """A range of `updated_at`, both ends included; `after` None reaches back to the first row."""

    after: datetime | None
    before: datetime

    @property
    def is_empty(self) -> bool:
        """Whether no instant lies in it."""
        return self.after is not None and self.after > self.before

    def parameters(self) -> list[tuple[str, str]]:
        """Return it as the API's parameters."""
        lower = [("updated_after", rfc3339(self.after))] if self.after else []
        return [*lower, ("updated_before", rfc3339(self.before))]


def rfc3339(instant: datetime) -> str:
    """Write an instant in UTC with microseconds, as in 2026-01-31T08:00:00.000000Z."""
    utc = instant.astimezone(timezone.utc)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def cut(window: Window, at: Sequence[datetime]) -> list[Window]:
    """Cut a window at the given instants; neighbours share theirs, so that nothing falls between.

    An instant may be finer than a microsecond on the server, hence no gap of one is left.
    """
    inside = sorted(
        {i for i in at if i < window.before and (window.after is None or i > window.after)}
    )
    ends = [*inside, window.before]
    return [
        Window(lower, upper) for lower, upper in zip([window.after, *inside], ends, strict=True)
    ]


def slices(
    window: Window, seen: Sequence[datetime], pages: int, workers: int
) -> list[Window] | None:
    """Say how to read the rest of a window in parallel, None to read on page after page.

    `seen` are the `updated_at` of the rows that its first `pages` pages held, in their order. They
    only guide where to cut: the slices cover the whole window again, whatever the server's order.
    """
    if not seen or window.after == window.before:
        return None
    ascending = all(a <= b for a, b in pairwise(seen))
    descending = all(a >= b for a, b in pairwise(seen))
    if not (ascending or descending):
        return _by_sample(window, seen, workers) if pages == _SAMPLED_PAGES else None
    first, last = window.after or min(seen), window.before
    covered = (max(seen) - first if ascending else last - min(seen)) or _TICK
    expected = (last - first) / covered * pages
    left = expected - pages
    most = max(2 * workers if workers > 1 else 1, int(expected / MOST_PAGES))
    parts = min(most, int(expected / FEWEST_PAGES), 10_000)
    if parts <= 1 or pages > 0.15 * left:
        return None
    return _apart(window, [first + (last - first) * i / parts for i in range(1, parts)], seen)


def _by_sample(window: Window, seen: Sequence[datetime], workers: int) -> list[Window] | None:
    ordered = sorted(seen)
    at = [ordered[len(ordered) * i // workers] for i in range(1, workers)]
    parts = _apart(window, at, seen)
    return parts if len(parts) > 1 else None


def _apart(window: Window, at: Sequence[datetime], seen: Sequence[datetime]) -> list[Window]:
    # Half a million rows may share one instant: as a boundary they would be read twice.
    crowded = {i for i in at if sum(1 for s in seen if s == i) > 1}
    return cut(
        window,
        [i for i in at if i not in crowded]
        + [i + _TICK for i in crowded]
        + [i - _TICK for i in crowded],
    )
