"""`verify --repair` mends what there is to mend, and stops before it takes too much away."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from commands import Ran, command
from conftest import rounds_and_chance, start_and_kill, start_command
from damage import found, verified
from destinations import Destination, DuckDB, Postgres
from dying import COMMITTING, LOADING, MERGING, NORMALIZING, READING, REMOVING
from held import held, lost
from lakes import Delta, Iceberg
from loaded import loaded
from patience import PATIENCE
from standing import Serve, load
from warehouse import shown

from unify_source.runs.verification import comparison, differences
from unify_source.sandbox import Account, Request

POINTS = (MERGING, None, REMOVING, LOADING, READING, NORMALIZING, COMMITTING)
"""Where a repair is killed: None is at any instant."""

on_duckdb = pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)


@on_duckdb
def test_more_than_a_twentieth_of_a_table_is_deleted_only_with_yes(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    still = api.account
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
    api = loaded(warehouse, serve)
    still = api.account
    [gone, *_] = sorted(row["id"] for row in still.rows() if row["reply_email_message"])
    still.remove(gone)

    outcome = verified(warehouse, api, repair=True, yes=True)

    assert found(outcome) == {}
    for table in ("enrollments", "reply_email_messages", "reply_classifications"):
        assert warehouse.stored_table(table) == shown(still)[table]


@on_duckdb
def test_rows_that_appear_later_than_the_lookback_are_found_and_repaired(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    moving = api.account
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
    api = loaded(warehouse, serve, 1_500)
    warehouse.change("DELETE FROM unify.enrollments")
    api.requests.clear()

    outcome = verified(warehouse, api, repair=True)

    assert (found(outcome), outcome.repaired >= 1_500) == ({}, True)
    assert sum("/enrollments/" in request.path for request in api.requests) == 0


@pytest.mark.long
@on_duckdb
def test_with_a_range_or_a_filter_only_what_lies_in_it_is_compared(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    still = api.account
    rows = sorted(still.rows(), key=lambda row: row["updated_at"])
    people = Counter(row["person"]["id"] for row in rows)
    alone = [row for row in rows if people[row["person"]["id"]] == 1]
    old, new = alone[20], alone[-20]
    between = rows[150]["updated_at"]
    for row in (old, new):
        warehouse.change(f"UPDATE unify.enrollments SET status = 'X' WHERE id = '{row['id']}'")
        warehouse.change(f"DELETE FROM unify.people WHERE id = '{row['person']['id']}'")

    def differing(*ends: Any, **options: Any) -> dict[str, int]:
        outcome = verified(warehouse, api, *ends, **options)
        counts = {table: sum(kinds.values()) for table, kinds in outcome.tables.items()}
        return {table: count for table, count in counts.items() if count}

    one = {"enrollments": 1, "people": 1}
    assert differing(between) == one
    assert differing(None, between) == one
    assert differing(alone[21]["updated_at"], alone[-21]["updated_at"]) == {}
    assert differing(person_id=old["person"]["id"]) == one
    assert found(verified(warehouse, api, between, repair=True)) == {}
    assert differing() == one


@pytest.mark.long
@on_duckdb
def test_a_row_that_was_gone_for_a_moment_comes_back_with_the_next_sync(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    still = api.account
    newest = max(still.rows(), key=lambda row: row["updated_at"])
    still.remove(newest["id"])
    assert verified(warehouse, api, repair=True).repaired > 0
    assert newest["id"] not in warehouse.keys("enrollments")

    still.put_many([newest])
    load(warehouse, api)

    assert warehouse.stored() == shown(still)


@pytest.mark.long
@on_duckdb
def test_rows_that_no_list_shows_are_asked_for_up_to_a_limit_and_never_removed_unasked(
    warehouse: Destination, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (differences, comparison):
        monkeypatch.setattr(module, "MOST_ASKED", 4)
    api = loaded(warehouse, serve, 100)
    still = api.account
    for row in still.rows()[:9]:
        still.remove(row["id"])
    api.requests.clear()

    stopped = verified(warehouse, api, repair=True)
    asked = sum("/enrollments/" in request.path for request in api.requests)
    taken = verified(warehouse, api, repair=True, yes=True)

    output = " ".join(stopped.as_lines())
    assert (asked, stopped.tables["enrollments"]["extra"]) == (4, 9)
    assert "5 more rows are not in the list, and were not asked for by id" in output
    assert "9 of 100 rows of enrollments" in output
    # Four, and four again, by the two repairs of one run.
    assert (taken.tables["enrollments"]["extra"], taken.exit_code) == (1, 4)


@pytest.mark.long
@pytest.mark.parametrize("when", ["while the list is read", "while it asks again"])
@on_duckdb
def test_a_person_forgotten_during_a_verify_is_named_in_no_difference(
    warehouse: Destination, serve: Serve, when: str
) -> None:
    moving = loaded(warehouse, serve).account
    [row, other, *_] = moving.rows()
    person = row["person"]["id"]
    done: list[Ran] = []

    def forget_once(request: Request) -> None:
        is_by_id = "/enrollments/" in request.path
        is_listed = "updated_before" in dict(request.query)
        if not done and (is_by_id if when == "while it asks again" else is_listed):
            done.append(command("forget", "--person", person))

    api = serve(moving, on_request=forget_once)
    for changed in (row, other):
        warehouse.change(f"UPDATE unify.enrollments SET status = 'X' WHERE id = '{changed['id']}'")

    outcome = verified(warehouse, api)

    assert done[0].returncode == 0, done[0].stderr
    assert outcome.differences > 0
    theirs = {r["id"] for r in moving.rows() if r["person"]["id"] == person} | {person}
    if "unify_verify_differences" in str(warehouse.ask("SHOW ALL TABLES")):  # type: ignore[attr-defined]
        written = {key for (key,) in warehouse.reads("unify_verify_differences", ["key"])}
        assert written.isdisjoint(theirs)
        assert when == "while it asks again" or other["id"] in written


@pytest.mark.parametrize(
    "warehouse", [pytest.param(kind, marks=kind.lane) for kind in (Delta, Iceberg)], indirect=True
)
def test_no_version_of_a_table_lacks_a_row_that_a_repair_deduplicates(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    before = warehouse.stored()
    doubled = warehouse.keys("enrollments")[:5]
    assert isinstance(warehouse, (Delta, Iceberg))
    warehouse.double("enrollments", doubled)

    outcome = verified(warehouse, api, repair=True)

    assert (found(outcome), outcome.repaired) == ({}, 5)
    assert warehouse.stored() == before
    lacking = [set(doubled) - keys for keys in warehouse.versions("enrollments")]
    complete = lacking[lacking.index(set()) :]
    assert complete == [set()] * len(complete)
    assert len(complete) > 2


@pytest.mark.rounds
@pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)
@pytest.mark.mostly_on_duckdb
def test_a_repair_killed_at_any_point_removes_no_row_that_the_api_shows(
    warehouse: Destination, serve: Serve
) -> None:
    rounds, chance = rounds_and_chance(3)
    api = loaded(warehouse, serve)
    still = api.account
    first = int(isinstance(warehouse, Postgres))
    command_line = ("verify", "--repair", "--yes", "--quiet", "--destination", warehouse.dlt_name)
    for number in range(rounds):
        damage_some(warehouse, still, chance.randrange(10**6))
        before = held(warehouse)
        point = POINTS[(first + number) % len(POINTS)]
        start_and_kill(api, *command_line, at=point or chance.uniform(0, 1))
        assert lost(before, held(warehouse), still) == {}

    last = start_command(api, *command_line)
    _, errors = last.communicate(timeout=PATIENCE)

    assert (last.returncode, errors) == (0, "")
    stored, expected = warehouse.stored(), shown(still)
    for name in ("enrollments", "reply_email_messages", "reply_classifications"):
        assert stored[name] == expected[name]
    # A person whom no enrollment shows any more stays.
    assert {n: [r for r in stored[n] if r in rows] for n, rows in expected.items()} == expected


def damage_some(warehouse: Destination, still: Account, seed: int) -> None:
    """Let rows be gone on either side, and others differ in content."""
    keys = sorted(warehouse.keys("enrollments"))
    gone, lacking, other = (keys[(seed + n) % len(keys)] for n in (0, 7, 13))
    still.remove(gone)
    warehouse.change(f"DELETE FROM unify.enrollments WHERE id = '{lacking}'")
    warehouse.change(f"UPDATE unify.enrollments SET status = 'X' WHERE id = '{other}'")
    warehouse.change("UPDATE unify.reply_email_messages SET subject = 'X' WHERE id < '4'")
    warehouse.change("DELETE FROM unify.reply_classifications WHERE id < '2'")
