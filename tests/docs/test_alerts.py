"""The alerts of the recipes fire for what they name, and for nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import KEY
from destinations import Destination, DuckDB, Postgres
from pages import blocks, page, section

from unify_source import UnifyError, sync, verify
from unify_source.sandbox import Account, Sandbox

STALE, INCOMPLETE = blocks("sql", section(page("recipes"), "Alerts"))


@pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)
def test_each_alert_fires_for_what_it_names_and_no_other(warehouse: Any) -> None:
    def alerts(query: str) -> set[str]:
        return {name for name, _ in warehouse.ask(query.rstrip(";\n"))}

    unreadable: set[str] = set()
    account = Account(60)
    given: dict[str, Any] = {"api_key": KEY}
    with Sandbox(
        account,
        key=KEY,
        reshape=lambda row: {**row, "is_paused": "no"} if row["id"] in unreadable else row,
    ) as api:
        given["base_url"] = api.url
        sync(warehouse.pipeline(), **given)
        assert alerts(STALE) == alerts(INCOMPLETE) == set()

        with pytest.raises(UnifyError):
            sync(warehouse.pipeline(), api_key="another", base_url=api.url)
        assert (alerts(STALE), alerts(INCOMPLETE)) == (set(), {"the last sync failed"})

        unreadable.add(account.ids()[0])
        account.put({**account.rows()[0], "updated_at": account.clock.now().isoformat()})
        account.put({**account.rows()[1], "status": "ODD"})  # Without moving `updated_at`.
        account.clock.advance(timedelta(seconds=2))
        sync(warehouse.pipeline(), **given)
        assert alerts(INCOMPLETE) == {"rows are in quarantine"}

        unreadable.clear()
        sync(warehouse.pipeline(), **given)
        verify(warehouse.pipeline(), **given)
        assert alerts(INCOMPLETE) == {"rows differ from the API"}
        verify(warehouse.pipeline(), repair=True, **given)
        assert (alerts(STALE), alerts(INCOMPLETE)) == (set(), set())

    change(warehouse, "latest_late_seconds = 301, late_rows = 2")
    assert alerts(INCOMPLETE) == {"rows came late for the lookback"}
    now = datetime.now(timezone.utc)
    change(warehouse, f"window_to = '{now - timedelta(hours=7)}'")
    assert alerts(STALE) == {"what is loaded ends more than 6 hours ago"}
    change(warehouse, f"finished_at = '{now - timedelta(hours=7)}', window_to = '{now}'")
    assert alerts(STALE) == {"no run has succeeded for 6 hours"}


def change(warehouse: Destination, values: str) -> None:
    warehouse.change(f"UPDATE unify.unify_sync_runs SET {values}")
