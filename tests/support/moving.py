"""Accounts whose rows change with the requests that read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from unify_source.api.client import Client
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.common.times import EPOCH, parse_instant
from unify_source.extract.reader import Reading
from unify_source.extract.window import Window
from unify_source.sandbox import Account, Request, Sandbox

KEY = "sandbox-key"
LOOKBACK = timedelta(minutes=10)
# What a simulated clock moves on with each request: a hundred requests a second.
TICK = timedelta(milliseconds=10)

OnRequest = Callable[[Request], None]


def living(account: Account, rate: float, late: float, chance: Random) -> OnRequest:
    """Return a handler that makes changes at each request, of which some show late."""
    due = 0.0

    def change(_request: Request) -> None:
        nonlocal due
        due += rate
        count = int(due)
        due -= count
        if count:
            hidden = LOOKBACK * chance.uniform(0.0005, 0.95) if chance.random() < late else None
            account.change(count, seed=chance.randrange(10**9), visible_after=hidden)

    return change


def restless(account: Account, order: str, bursts: int = 1) -> OnRequest:
    """Return what makes the first row of the largest bursts leave them with every further page.

    Where a burst alone is read, more leave it than fit a page of ten: faster than can be read.
    """
    common = Counter(row["updated_at"] for row in account.rows()).most_common(bursts)
    rows = {
        parse_instant(shared): sorted(
            (row for row in account.rows() if row["updated_at"] == shared),
            key=lambda row: row["created_at" if order == "created" else "id"],
            reverse=order == "updated_desc",
        )
        for shared, _ in common
    }

    def change(request: Request) -> None:
        asked = dict(request.query)
        after = parse_instant(asked.get("updated_after", ""))
        before = parse_instant(asked.get("updated_before", ""))
        read = Window(after, before) if after and before and before - after < TICK else None
        for shared, burst in rows.items():
            for _ in range(12 if read and shared and read.holds(shared) else 1):
                if "cursor" in asked and burst:
                    account.put({**burst.pop(0), "updated_at": account.clock.now().isoformat()})

    return change


@dataclass
class Copy:
    """The newest version of each row read so far, and the windows left unsettled."""

    account: Account
    how: dict[str, Any]
    rows: dict[str, datetime] = field(default_factory=dict)
    unsettled: list[Window] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def read(
        self, after: datetime | None, on_request: OnRequest | None = None, **how: Any
    ) -> datetime:
        """Read all changes since an instant, as a run does; return the end of the window."""
        server = {name: self.how[name] for name in ("order", "cursor")}
        how = {name: self.how[name] for name in self.how.keys() - server.keys()} | how
        with Sandbox(self.account, key=KEY, on_request=on_request, **server) as api:
            client = Client(checked_settings({"api_key": KEY, "base_url": api.url}))
            now = client.server_time(ENROLLMENT_LIST)
            how = {"page_size": 100, "workers": 8, "again_from": now - LOOKBACK, **how}
            windows = [Window(after, now)]
            again, self.unsettled = self.unsettled, []
            for read in (again, windows) if again else (windows,):
                reading = Reading(client, ENROLLMENT_LIST, read, (), lookback=LOOKBACK, **how)
                covered = read[0].after or EPOCH
                while covered < read[-1].before:
                    self._note(reading, now)
                    self.unsettled += reading.unsettled
                    covered = reading.covered.before
                reading.close()
            self.requests = api.requests
        return now

    def _note(self, batches: Iterable[list[bytes]], until: datetime) -> None:
        for body in (body for bodies in batches for body in bodies):
            for row in json.loads(body)["enrollments"]:
                at = parse_instant(row["updated_at"])
                assert at
                if at <= until and at >= self.rows.get(row["id"], at):
                    self.rows[row["id"]] = at

    @property
    def lost(self) -> int:
        """How many rows it lacks, or holds in an older version than the API shows."""
        shown = {row["id"]: parse_instant(row["updated_at"]) for row in self.account.rows()}
        return sum(self.rows.get(key) != at for key, at in shown.items())


def loaded(
    account: Account,
    rate: float,
    late: float,
    chance: Random,
    *,
    checks: bool = True,
    **how: Any,
) -> Copy:
    """Read an account that changes at this rate, and once more after changes stopped.

    A share of the changes becomes visible late, by up to the lookback.
    """
    copy = Copy(account, how)
    # Rows that a later run reads again need no check: so none has one.
    unchecked: Any = {} if checks else {"again_from": EPOCH}
    until = copy.read(None, living(account, rate * TICK.total_seconds(), late, chance), **unchecked)
    account.clock.advance(LOOKBACK + timedelta(seconds=1))
    first = copy.requests
    copy.read(until - LOOKBACK, **unchecked)
    copy.requests = first
    return copy
