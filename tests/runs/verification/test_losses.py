"""What a dataset has lost, rows or its state, a comparison finds exactly and a run makes good."""

from __future__ import annotations

import shutil
from datetime import timedelta
from random import Random

import pytest
from damage import Damage, found, verified
from destinations import MACHINES, Destination, DuckDB, Postgres
from loaded import loaded
from moving import LOOKBACK, TICK, OnRequest
from standing import START, Serve, change, load
from warehouse import shown

from unify_source.extract.cuts.slice import Slice
from unify_source.sandbox import Account, Clock

on_duckdb_and_postgres = pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)


@pytest.mark.mostly_on_duckdb
@on_duckdb_and_postgres
def test_a_dataset_that_lost_its_state_is_equal_and_stays_so_with_the_next_sync(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    shutil.rmtree(MACHINES)
    warehouse.change("DELETE FROM unify._dlt_pipeline_state")

    compared = verified(warehouse, api)
    change(api.account, 50)
    load(warehouse, api)

    assert (compared.verdict, found(compared)) == ("equal", {})
    assert warehouse.stored() == shown(api.account)
    assert verified(warehouse, api).verdict == "equal"


@pytest.mark.mostly_on_duckdb
@on_duckdb_and_postgres
@pytest.mark.parametrize("order", ["updated", pytest.param("id", marks=pytest.mark.long)])
def test_rows_that_an_offset_skipped_are_found_exactly_and_one_repair_brings_them(
    warehouse: Destination, serve: Serve, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    account = Account(700, seed=1, clock=Clock(START, TICK), days=30)
    server = {"order": order, "cursor": "offset"}
    with monkeypatch.context() as patch:
        # Without this safeguard, rows that others move out of a page are lost for good.
        patch.setattr(Slice, "may_have_skipped", lambda *_: False)
        live = serve(account, on_request=touching(account, Random(1)), **server)
        load(warehouse, live, page_size=10, workers=1)
        account.clock.advance(LOOKBACK + timedelta(seconds=1))
        api = serve(account, **server)
        load(warehouse, api, page_size=10)
    skipped = missing(warehouse, account)
    assert skipped["enrollments"]["missing"] > 0

    compared = verified(warehouse, api)
    repaired = verified(warehouse, api, repair=True)

    assert (found(compared), compared.exit_code) == (skipped, 4)
    assert (found(repaired), repaired.exit_code) == ({}, 0)
    assert warehouse.stored() == shown(account)


def touching(account: Account, chance: Random) -> OnRequest:
    """Return what gives some rows a new `updated_at` at each request, and changes nothing else."""

    def touch(_request: object) -> None:
        now = account.clock.now().isoformat()
        rows = [account.get(key) for key in chance.sample(account.ids(), 5)]
        account.put_many({**row, "updated_at": now} for row in rows if row)

    return touch


def missing(warehouse: Destination, account: Account) -> Damage:
    """Return how many rows each table lacks that the API shows."""
    stored = warehouse.stored()
    lacking = {
        name: len({row[0] for row in rows} - {row[0] for row in stored[name]})
        for name, rows in shown(account).items()
    }
    return {name: {"missing": count} for name, count in lacking.items() if count}
