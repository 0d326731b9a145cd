"""Time and failure: rows change while they are read, in every order that a server may list in."""

from __future__ import annotations

import os
import random
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_SOAK, KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse import Rows, shown, stored

from unify_source.cli.pipeline import open_pipeline
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Clock, Sandbox

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
LOOKBACK = timedelta(minutes=10)
ORDERS = ["updated", "updated_desc", "created", "id"]


def simulate(
    seed: int,
    order: str,
    *,
    cursor: str = "keyset",
    lookback: str = "10m",
    tick: timedelta = timedelta(minutes=1),
) -> tuple[Rows, Rows]:
    """Load an account that changes all the time; return what it shows in the end, and the tables.

    A minute passes with every request, so that one run takes longer than the lookback. Four of
    ten changes become visible late, by up to the lookback, and so in another order.
    """
    chance = random.Random(seed)
    clock = Clock(start=START, tick=tick)
    account = Account(chance.randrange(40, 120), seed=seed, clock=clock, days=2)

    def change(_: Any) -> None:
        late = LOOKBACK * chance.uniform(0.1, 0.95) if chance.random() < 0.4 else None
        account.change(chance.randrange(1, 3), seed=chance.randrange(10**9), visible_after=late)

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "api_key": KEY,
            "lookback": lookback,
            "page_size": chance.choice([3, 5, 10]),
            "workers": chance.choice([1, 1, 3]),
        }

        def load(url: str) -> None:
            pipeline = open_pipeline(
                "simulated",
                "duckdb",
                "unify",
                pipelines_dir=folder,
                credentials=f"{folder}/simulated.duckdb",
            )
            sync(pipeline, base_url=url, **options)

        with Sandbox(account, key=KEY, order=order, cursor=cursor, on_request=change) as changing:
            for _run in range(2):
                load(changing.url)
                for _ in range(5):
                    clock.advance(timedelta(minutes=chance.random()))
                    change(None)
        clock.advance(LOOKBACK + timedelta(seconds=1))
        with Sandbox(account, key=KEY, order=order, cursor=cursor) as still:
            load(still.url)
        return shown(account), stored(Path(folder) / "simulated.duckdb")


@pytest.mark.rounds
@pytest.mark.parametrize("order", ORDERS if IS_SOAK else ORDERS[::2])
# The first example that hypothesis draws is always the simplest, which tries little.
@settings(max_examples=int(os.environ.get("UNIFY_TEST_ROUNDS", "2")))
@given(seed=st.integers(0, 10**6), cursor=st.sampled_from(["keyset", "offset"]))
def test_once_changes_stop_one_more_sync_makes_every_table_equal(
    order: str, cursor: str, seed: int
) -> None:
    expected, found = simulate(seed, order, cursor=cursor)

    assert found == expected


def test_without_a_lookback_late_rows_are_missed_so_the_simulation_can_fail() -> None:
    # Rows that become visible during a run may be found by what it reads again.
    quick = timedelta(seconds=1)
    outcomes = (simulate(seed, "updated", lookback="0s", tick=quick) for seed in range(6))

    assert any(found != expected for expected, found in outcomes)
