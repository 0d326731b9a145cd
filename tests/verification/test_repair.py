"""`verify --repair` mends what there is to mend, and stops before it takes too much away."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from damage import found, verified
from destinations import Destination, DuckDB
from standing import Serve, account, load
from warehouse import shown

on_duckdb = pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)


@on_duckdb
def test_more_than_a_twentieth_of_a_table_is_taken_away_only_if_told_so(
    warehouse: Destination, serve: Serve
) -> None:
    still = account()
    api = serve(still)
    load(warehouse, api)
    gone = sorted(row["id"] for row in still.rows())[:16]
    for key in gone:
        still.remove(key)
    before = warehouse.keys("enrollments")

    stopped = verified(warehouse, api, repair=True)
    unchanged = warehouse.keys("enrollments")
    done = verified(warehouse, api, repair=True, yes=True)

    assert stopped.tables["enrollments"]["extra"] == 16
    assert (stopped.exit_code, stopped.repaired, unchanged) == (4, 0, before)
    assert "16 of 300 rows of enrollments" in " ".join(stopped.as_lines())
    assert (found(done), done.exit_code) == ({}, 0)
    assert warehouse.keys("enrollments") == [key for key in before if key not in gone]


@on_duckdb
def test_children_of_a_row_that_is_gone_go_with_it(warehouse: Destination, serve: Serve) -> None:
    still = account()
    api = serve(still)
    load(warehouse, api)
    [gone, *_] = sorted(row["id"] for row in still.rows() if row["reply_email_message"])
    still.remove(gone)

    outcome = verified(warehouse, api, repair=True, yes=True)

    assert found(outcome) == {}
    for table in ("enrollments", "reply_email_messages", "reply_classifications"):
        assert warehouse.stored_table(table) == shown(still)[table]


@on_duckdb
def test_what_became_visible_later_than_the_lookback_is_found_and_healed(
    warehouse: Destination, serve: Serve
) -> None:
    moving = account(120)
    api = serve(moving)
    load(warehouse, api)
    moving.change(30, seed=1, visible_after=timedelta(hours=1))
    moving.clock.advance(timedelta(minutes=30))
    moving.change(1, seed=2)
    moving.clock.advance(timedelta(seconds=1))
    load(warehouse, api, lookback="0s")
    moving.clock.advance(timedelta(hours=1))
    load(warehouse, api, lookback="0s")

    lost = verified(warehouse, api)
    healed = verified(warehouse, api, repair=True)

    assert lost.differences > 10
    assert found(healed) == {}
    assert warehouse.stored() == shown(moving)


@on_duckdb
def test_many_rows_are_reloaded_from_the_list(warehouse: Destination, serve: Serve) -> None:
    api = serve(account(1_500))
    load(warehouse, api)
    warehouse.change("DELETE FROM unify.enrollments")
    api.requests.clear()

    outcome = verified(warehouse, api, repair=True)

    assert (found(outcome), outcome.repaired >= 1_500) == ({}, True)
    assert sum("/enrollments/" in request.path for request in api.requests) == 0


@on_duckdb
def test_with_a_range_or_a_filter_only_what_lies_in_it_is_compared(
    warehouse: Destination, serve: Serve
) -> None:
    still = account()
    api = serve(still)
    load(warehouse, api)
    rows = sorted(still.rows(), key=lambda row: row["updated_at"])
    people = Counter(row["person"]["id"] for row in rows)
    alone = [row for row in rows if people[row["person"]["id"]] == 1]
    old, new = alone[20], alone[-20]
    between = rows[150]["updated_at"]
    for row in (old, new):
        warehouse.change(f"UPDATE unify.enrollments SET status = 'X' WHERE id = '{row['id']}'")
        warehouse.change(f"DELETE FROM unify.people WHERE id = '{row['person']['id']}'")

    def differing(*ends: Any, **said: Any) -> dict[str, int]:
        outcome = verified(warehouse, api, *ends, **said)
        counts = {table: sum(kinds.values()) for table, kinds in outcome.tables.items()}
        return {table: count for table, count in counts.items() if count}

    one, both = {"enrollments": 1, "people": 1}, {"enrollments": 2, "people": 2}
    assert differing() == both
    assert differing(between) == one
    assert differing(None, between) == one
    assert differing(alone[21]["updated_at"], alone[-21]["updated_at"]) == {}
    assert differing(person_id=old["person"]["id"]) == one
    assert found(verified(warehouse, api, between, repair=True)) == {}
    assert differing() == one
