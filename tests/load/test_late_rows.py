"""Rows that became visible late are counted, and no others that were read again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from conftest import KEY
from destinations import Destination, DuckDB
from hypothesis import given
from hypothesis import strategies as st
from listing import listing, version

from unify_source import backfill, sync
from unify_source.common.resources import CURSOR, INSTANT, TEXT
from unify_source.common.resources import KEY as ID
from unify_source.common.times import rfc3339
from unify_source.load.ledger.reading import Runs
from unify_source.load.state.late import Late, Lateness
from unify_source.runs.status import status

CURSOR_AT = datetime(2026, 5, 31, 8, 1, tzinfo=timezone.utc)

ages = st.dictionaries(st.sampled_from("abcdef"), st.integers(-90, 90), max_size=6)


@given(seen=ages, listed=ages, asked=st.sets(st.sampled_from("abcdef")))
def test_late_rows_are_those_behind_the_cursor_that_no_run_has_seen(
    seen: dict[str, int], listed: dict[str, int], asked: set[str]
) -> None:
    def at(age: int) -> datetime:
        return CURSOR_AT - timedelta(seconds=age)

    known = {key: [rfc3339(at(age)), ""] for key, age in seen.items()}
    lateness = Lateness(known, at(60), CURSOR_AT)
    columns = {
        ID: pa.array(list(listed), TEXT),
        CURSOR: pa.array([at(age) for age in listed.values()], INSTANT),
    }
    for _ in range(2):  # What comes twice is late once.
        lateness.note(pa.table(columns), asked)

    late = {
        key: age
        for key, age in listed.items()
        if 0 < age <= 60 and key not in asked and age < seen.get(key, 10**6)
    }
    assert lateness.measured() == Late(len(late), max(late.values(), default=None))


def late(warehouse: Destination) -> tuple[int | None, int | None]:
    """Return the last run's row in the ledger."""
    rows = warehouse.reads("unify_sync_runs", ["started_at", "late_rows", "latest_late_seconds"])
    _, count, seconds = max(rows)
    return count, seconds


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_late_rows_are_counted_and_status_warns_before_they_are_missed(
    warehouse: Destination,
) -> None:
    rows: list[dict[str, Any]] = [version("new", "59Z"), version("old", "50Z")]

    def loaded(*more: dict[str, Any], **how: Any) -> tuple[int | None, int | None]:
        by_id = {row["id"]: row for row in (*rows, *more)}
        rows[:] = by_id.values()
        with listing(rows) as url:
            sync(warehouse.pipeline(), api_key=KEY, base_url=url, **{"lookback": 30, **how})
        return late(warehouse)

    assert loaded(start="2026-05-31T08:00:40Z") == (None, None)
    # Not loaded so far, because of `start` and then of the lookback, and not late for that.
    assert loaded(version("before", "35Z")) == (0, None)
    assert loaded(version("long before", "05Z"), lookback="10m") == (0, None)
    assert loaded(version("late", "47Z"), lookback="10m") == (1, 12)
    assert loaded() == (0, None)
    assert loaded(version("old", "52Z", status="FINISHED")) == (1, 7)
    assert loaded(version("odd", "58Z", is_paused="no")) == (0, None)
    assert loaded(version("odd", "58Z")) == (0, None), "in quarantine it was seen"
    with listing(rows := [*rows, version("filled in", "20Z")]) as url:
        backfill(warehouse.pipeline(), "2026-05-31", api_key=KEY, base_url=url)
    assert late(warehouse) == (None, None)
    assert not status(warehouse.pipeline()).runs.is_near_lookback
    assert loaded(version("very late", "31Z")) == (1, 28)
    result = status(warehouse.pipeline())
    assert result.as_json()["latest_late_seconds"] == 28
    assert any("28 s behind the cursor" in line for line in result.as_lines())
    assert "raise lookback" in result.as_lines()[-1]


def test_a_longer_lookback_ends_the_warning() -> None:
    def run(seconds: int | None, lookback: int) -> dict[str, Any]:
        return {"latest_late_seconds": seconds, "lookback_seconds": lookback, "verdict": None}

    assert Runs([run(None, 600), run(400, 600)]).is_near_lookback
    assert not Runs([run(None, 3600), run(400, 600)]).is_near_lookback
    assert not Runs([run(None, 600), run(300, 600)]).is_near_lookback
    assert not Runs([]).is_near_lookback
