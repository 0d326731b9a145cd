"""An account with a stopped clock, and runs on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from conftest import KEY
from destinations import Destination

from unify_source import sync
from unify_source.runs.report import Report
from unify_source.sandbox import Account, Clock, Sandbox

Serve = Callable[..., Sandbox]


START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def account(size: int = 300, **options: Any) -> Account:
    """Return an account whose clock stands still, so that a test says what a run can see."""
    return Account(size, clock=Clock(START), **options)


def load(warehouse: Destination, api: Sandbox | str, **given: Any) -> Report:
    url = api if isinstance(api, str) else api.url
    return sync(warehouse.pipeline(), api_key=KEY, base_url=url, **given)


def change(changing: Account, count: int, seed: int = 1) -> None:
    changing.change(count, seed=seed)
    changing.clock.advance(timedelta(seconds=1))
