"""What changed too fast to be read without a gap is read again by the next run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
import pytest
from conftest import IS_SOAK, KEY
from moving import restless
from warehouse import shown, stored

from unify_source.load.packages import state_of
from unify_source.runs.backfill import backfill
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Clock, Sandbox

START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
FILE = "unify_gtm.duckdb"
HOW: dict[str, Any] = {"api_key": KEY, "page_size": 10, "workers": 1}


def from_2000(pipeline: dlt.Pipeline, **options: Any) -> object:
    return backfill(pipeline, "2000-01-01", **options)


def filtered(pipeline: dlt.Pipeline, **how: Any) -> object:
    return backfill(pipeline, "2000-01-01", status="DRAFT,IN_PROGRESS,FINISHED", **how)


def over_an_interval(pipeline: dlt.Pipeline, **how: Any) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLT_INTERVAL_START", "2000-01-01T00:00:00Z")
        patch.setenv("DLT_INTERVAL_END", "2030-01-01T00:00:00Z")
        return sync(pipeline, **how)


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("load", "again"),
    [
        (sync, sync),
        (from_2000, sync),
        (filtered, sync),
        *[(over_an_interval, sync)] * IS_SOAK,
        (over_an_interval, over_an_interval),
    ],
)
def test_a_run_that_cannot_rule_out_a_gap_reports_it_and_the_next_sync_closes_it(
    load: Callable[..., object],
    again: Callable[..., object],
    pipeline: dlt.Pipeline,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock(START, timedelta(milliseconds=10))
    account = Account(300, clock=clock, days=30, one_instant=200)
    changing = restless(account, "updated")

    with (
        caplog.at_level(logging.WARNING),
        Sandbox(account, key=KEY, cursor="offset", on_request=changing) as api,
    ):
        load(pipeline, base_url=api.url, **HOW)
    left = state_of(pipeline).get("unsettled")
    warnings = [each for each in caplog.messages if "The next sync reads them again" in each]
    clock.advance(timedelta(seconds=1))
    with Sandbox(account, key=KEY, cursor="offset") as api:
        again(pipeline, base_url=api.url, **HOW)

    assert left
    assert warnings
    assert stored(FILE) == shown(account)
    assert "unsettled" not in state_of(pipeline)
