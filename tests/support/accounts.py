"""Accounts whose updates lie in time as the tests need it; no test changes them.

Making one takes longer than reading it, so they are made once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import cache

from unify_source.sandbox import Account, Clock

START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
BURST = "2026-06-01T03:07:31+00:00"
_SPAN = timedelta(days=400)


@cache
def account(size: int, crowded: float = 0.0, one_instant: int = 0) -> Account:
    """Return a lifelike one."""
    return Account(size, clock=Clock(START), crowded=crowded, one_instant=one_instant)


@cache
def in_groups(size: int, group: int) -> Account:
    """Return an account in which this many rows share each instant, as after hourly jobs."""
    step = _SPAN / size
    return _dated(START - step * (size - number // group * group) for number in range(size))


@cache
def growing(size: int, group: int) -> Account:
    """Return an account that grows ever denser, with this many rows at each instant."""
    parts = ((number // group * group / size) ** (1 / 3) for number in range(size))
    return _dated(START - _SPAN * (1 - part) for part in parts)


@cache
def begun_with(burst: int, size: int) -> Account:
    """Return an account with this many rows imported at once, and the others after that."""
    step = _SPAN / (size - burst)
    return _dated(START - step * min(size - burst, size - number) for number in range(size))


@cache
def with_a_burst(singles: int, burst: int) -> Account:
    """Return an account of a row a minute, and a burst at one instant amid single rows."""
    at = datetime.fromisoformat(BURST)
    around = [at + timedelta(seconds=n + 1) for n in range(singles)]
    evenly = [START - timedelta(minutes=n) for n in range(2_000)]
    before = [at - timedelta(seconds=n + 1) for n in range(singles)]
    return _dated([*evenly, *before, *around, *[at] * burst])


def _dated(updated: Iterable[datetime]) -> Account:
    times = [at.isoformat() for at in updated]
    filled = Account(0, clock=Clock(START))
    rows = zip(account(len(times)).rows(), times, strict=True)
    filled.put_many({**row, "updated_at": at} for row, at in rows)
    return filled
