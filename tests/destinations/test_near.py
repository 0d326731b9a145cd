"""A merge into Delta reads the files of the rows that it replaces, and misses none of these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from secrets import token_hex
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import Delta
from standing import Serve, account, change, load
from warehouse import shown

from unify_source.common.resources import ENROLLMENTS, INSTANT
from unify_source.common.times import rfc3339
from unify_source.destinations.lakes.near import near

START = datetime(2026, 6, 1, tzinfo=timezone.utc)


def those_near(replaced: Sequence[datetime | None], rows: Sequence[datetime | None]) -> list[bool]:
    target = pa.table({"at": pa.array(rows, INSTANT)})
    condition = near("target.at", pa.chunked_array([pa.array(replaced, INSTANT)])) or "true"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("target", target)
        found = connection.execute(f"SELECT {condition} IS TRUE FROM target").fetchall()
    return [is_near for (is_near,) in found]


@given(st.lists(st.none() | st.datetimes(timezones=st.just(timezone.utc)), max_size=120))
def test_every_replaced_row_is_near_and_so_is_one_that_is_not_stored(
    replaced: list[datetime | None],
) -> None:
    assert all(those_near(replaced, [*replaced, None]))


def test_rows_between_those_that_are_replaced_are_not_near() -> None:
    days = [START + timedelta(days=number) for number in range(60)]

    assert those_near(days[::3], days) == [number % 3 == 0 for number in range(60)]
    assert not any(those_near([], days))


@pytest.mark.parametrize("year", [1, 9999])
def test_an_instant_near_an_end_of_time_limits_nothing(year: int) -> None:
    end = START.replace(year=year, month=1, day=1) if year == 1 else START.replace(year, 12, 31, 1)

    assert all(those_near([end], [end, START]))


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", [Delta], indirect=True, ids=["Delta"])
def test_a_merge_into_a_large_table_reads_only_the_files_of_the_rows_that_it_replaces(
    serve: Serve, warehouse: Any
) -> None:
    api = serve(account(100))
    load(warehouse, api)

    def files_read() -> int:
        load(warehouse, api)
        [last] = warehouse._opened(ENROLLMENTS.name).history(1)  # noqa: SLF001
        assert last["operation"] == "MERGE"
        return int(last["operationMetrics"]["num_target_files_scanned"])

    def put_long_rows(*numbers: int) -> None:
        api.account.clock.advance(timedelta(hours=1))
        now, row = rfc3339(api.account.clock.now()), api.account.rows()[0]
        for number in numbers:
            notes = token_hex(1 << 20)
            api.account.put({**row, "id": str(UUID(int=number)), "updated_at": now, "notes": notes})

    put_long_rows(*range(20))
    files_read()
    put_long_rows(20)
    assert files_read() == 0
    change(api.account, 1)
    assert files_read() == 1
    assert warehouse.stored() == shown(api.account)
