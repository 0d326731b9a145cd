"""Each alert of the recipes fires for its own condition only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import IS_SOAK, KEY
from destinations import Destination, DuckDB, Postgres
from pages import blocks, page, section

from unify_source import UnifyError, sync, verify
from unify_source.sandbox import Account, Sandbox

STALE, INCOMPLETE = blocks("sql", section(page("recipes"), "Alerts"))


def alerts(warehouse: Any, query: str) -> set[str]:
    return {name for name, _ in warehouse.ask(query.rstrip(";\n"))}


def fail_and_read_odd_rows(warehouse: Any, account: Account) -> None:
    unreadable: set[str] = set()
    with Sandbox(
        account,
        key=KEY,
        reshape=lambda row: {**row, "is_paused": "no"} if row["id"] in unreadable else row,
    ) as api:
        sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)
        assert alerts(warehouse, STALE) == alerts(warehouse, INCOMPLETE) == set()

        with pytest.raises(UnifyError):
            sync(warehouse.pipeline(), api_key="another", base_url=api.url)
        assert alerts(warehouse, STALE) == set()
        assert alerts(warehouse, INCOMPLETE) == {"the last sync failed"}

        unreadable.add(account.ids()[0])
        account.put({**account.rows()[0], "updated_at": account.clock.now().isoformat()})
        account.clock.advance(timedelta(seconds=2))
        sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)
        assert alerts(warehouse, INCOMPLETE) == {"rows are in quarantine"}

        unreadable.clear()
        sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)
        assert alerts(warehouse, INCOMPLETE) == set()


def differ_and_repair(warehouse: Any, account: Account) -> None:
    with Sandbox(account, key=KEY) as api:
        given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
        sync(warehouse.pipeline(), **given)
        account.put({**account.rows()[1], "status": "ODD"})  # Without moving `updated_at`.
        verify(warehouse.pipeline(), **given)
        assert alerts(warehouse, INCOMPLETE) == {"rows differ from the API"}
        verify(warehouse.pipeline(), repair=True, **given)
        assert alerts(warehouse, STALE) == alerts(warehouse, INCOMPLETE) == set()


CASES = [(DuckDB, fail_and_read_odd_rows), (Postgres, differ_and_repair)]
TWINS = [(Postgres, fail_and_read_odd_rows), (DuckDB, differ_and_repair)]


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("warehouse", "trouble"), [*CASES, *(TWINS if IS_SOAK else ())], indirect=["warehouse"]
)
def test_each_alert_fires_for_what_it_names_and_no_other(
    warehouse: Any, trouble: Callable[[Any, Account], None]
) -> None:
    trouble(warehouse, Account(60))

    change(warehouse, "latest_late_seconds = 301, late_rows = 2")
    assert alerts(warehouse, INCOMPLETE) == {"rows came late for the lookback"}
    now = datetime.now(timezone.utc)
    change(warehouse, f"window_to = '{now - timedelta(hours=7)}'")
    assert alerts(warehouse, STALE) == {"what is loaded ends more than 6 hours ago"}
    change(warehouse, f"finished_at = '{now - timedelta(hours=7)}', window_to = '{now}'")
    assert alerts(warehouse, STALE) == {"no run has succeeded for 6 hours"}


def change(warehouse: Destination, values: str) -> None:
    warehouse.change(f"UPDATE unify.unify_sync_runs SET {values}")
