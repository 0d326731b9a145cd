"""The local API lists the sequences that its enrollments nest, and they live lives of their own."""

import time
from datetime import timedelta
from typing import Any

import pytest
from asking import LIST, SEQUENCES, START, Row, account, ask, instant, listed, pages

from unify_source.sandbox import Account, Clock, Fault, Sandbox

MANY = 25_000


def by_id(rows: list[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows}


def nested(data: Account) -> dict[str, Row]:
    return by_id([row["sequence"] for row in data.rows()])


def short(sequence: Row) -> Row:
    return {name: sequence[name] for name in ("id", "name", "is_paused")}


def base_row(number: int, **more: Any) -> Row:
    row = account(1).rows()[0]
    return {**row, "id": f"11111111-1111-4111-8111-{number:012}", **more}


def test_the_list_holds_the_sequences_that_enrollments_nest_each_once() -> None:
    with Sandbox(account(MANY)) as sandbox:
        rows = listed(sandbox, SEQUENCES, limit=7)
        assert len(rows) == 50
        assert {row["id"]: short(row) for row in rows} == nested(sandbox.account)
        assert by_id(rows) == by_id(sandbox.account.sequences())
        for row in rows[:3]:
            assert ask(sandbox, f"{SEQUENCES}/{row['id'].upper()}").json() == row


@pytest.mark.parametrize("order", ["updated", "updated_desc", "created", "id"])
def test_sequences_come_in_the_order_of_the_sandbox(order: str) -> None:
    with Sandbox(account(MANY), order=order) as sandbox:
        rows = listed(sandbox, SEQUENCES, limit=7)
    field = {"id": "id", "created": "created_at"}.get(order, "updated_at")
    values = [row[field] if field == "id" else instant(row[field]) for row in rows]
    assert values == sorted(values, reverse=order == "updated_desc")


def test_the_list_of_sequences_takes_a_limit_and_a_cursor_and_ignores_what_it_does_not_know() -> (
    None
):
    with Sandbox(account(MANY)) as sandbox:
        plain = ask(sandbox, SEQUENCES).json()
        ignored = {"status": "x", "updated_after": "yesterday", "sequence_id": ["7", "8"]}
        assert ask(sandbox, SEQUENCES, **ignored).json() == plain
        for limit in ("0", "101", "ten"):
            refused = ask(sandbox, SEQUENCES, limit=limit)
            assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, ["limit"])
        cursor = ask(sandbox, SEQUENCES, limit=10).json()["next_cursor"]
        assert ask(sandbox, SEQUENCES, limit=10, cursor=cursor).ok
        assert ask(sandbox, LIST, limit=10, cursor=cursor).status_code == 400
        elsewhere = ask(sandbox, LIST, limit=10).json()["next_cursor"]
        assert ask(sandbox, SEQUENCES, limit=10, cursor=elsewhere).status_code == 400


def test_faults_and_the_rate_limit_hit_the_list_of_sequences_too() -> None:
    with Sandbox(account(10), rate_limit=0.5, faults=[Fault("500", times=1)]) as sandbox:
        statuses = [ask(sandbox, SEQUENCES).status_code for _ in range(7)]
    assert statuses == [500, 200, 200, 200, 200, 429, 429]


def test_a_few_users_schedules_and_rulesets_are_shared_and_can_be_null() -> None:
    rows = account(MANY).sequences()
    for part, most in (("owner", 5), ("send_schedule", 4), ("sequence_ruleset", 4)):
        seen: dict[str, Row] = {}
        found = [row[part] for row in rows]
        assert all(seen.setdefault(one["id"], one) == one for one in found if one)
        assert 2 <= len(seen) <= most
        assert (None in found) == (part != "owner")
    days = [row["send_schedule"]["rules"]["send_days"] for row in rows if row["send_schedule"]]
    assert all(set(day) == set("1234567") for day in days)
    assert all(None in day.values() for day in days)


def test_sequences_are_the_same_for_the_same_seed_and_made_before_their_enrollments() -> None:
    one, two, other = account(5000, seed=7), account(5000, seed=7), account(5000, seed=8)
    assert one.sequences() == two.sequences() != other.sequences()
    earliest = min(instant(row["created_at"]) for row in one.rows())
    for row in one.sequences():
        assert instant(row["created_at"]) <= earliest
        assert instant(row["created_at"]) <= instant(row["updated_at"]) <= START


def test_a_new_name_shows_at_once_and_moves_no_enrollment() -> None:
    data = account()
    before = by_id(data.rows())
    first, second, _ = [row["id"] for row in data.sequences()]
    for _ in range(2):
        old = by_id(data.sequences())
        data.rename_sequence(first, "Renamed")
        data.pause_sequence(second)
        new = by_id(data.sequences())
        assert new[first]["name"] == "Renamed"
        assert new[second]["is_paused"]
        for name in (first, second):
            assert instant(old[name]["updated_at"]) < instant(new[name]["updated_at"])
    after = by_id(data.rows())
    assert nested(data) == {name: short(row) for name, row in new.items()}
    unchanged = [row | {"sequence": after[name]["sequence"]} for name, row in before.items()]
    assert unchanged == list(after.values())
    with pytest.raises(KeyError):
        data.rename_sequence("unknown", "Renamed")


def test_a_sequence_that_is_removed_is_gone_from_the_list_and_nowhere_else() -> None:
    data = account()
    rows = data.rows()
    gone, *stay = [row["id"] for row in data.sequences()]
    data.remove_sequence(gone)
    data.put(next(row for row in rows if row["sequence"]["id"] == gone))
    with Sandbox(data) as sandbox:
        assert {row["id"] for row in listed(sandbox, SEQUENCES)} == set(stay)
        assert ask(sandbox, f"{SEQUENCES}/{gone}").status_code == 404
        assert listed(sandbox) == rows
        assert {row["sequence"]["id"] for row in listed(sandbox, sequence_id=gone)} == {gone}


def test_a_new_version_of_a_sequence_cancels_live_enrollments_and_enrolls_the_same_people() -> None:
    data = account()
    old = data.sequences()[0]
    before = {
        name: row for name, row in by_id(data.rows()).items() if row["sequence"] == short(old)
    }
    live = {name: row for name, row in before.items() if row["status"] != "FINISHED"}
    new_id = data.upgrade_sequence(old["id"])

    after = by_id(data.rows())
    new = by_id(data.sequences())[new_id]
    assert new["name"] == old["name"]
    assert all(new[part] == old[part] for part in ("owner", "send_schedule", "sequence_ruleset"))
    assert by_id(data.sequences())[old["id"]] == old
    canceled = {"status": "FINISHED", "is_canceled": True, "is_paused": False}
    for name, row in before.items():
        moved = {**canceled, "ended_at": new["created_at"], "updated_at": new["created_at"]}
        assert after[name] == (row | moved if name in live else row)
    enrolled = [row for row in after.values() if row["sequence"]["id"] == new_id]
    assert not {row["id"] for row in enrolled} & set(before)
    assert {row["person"]["id"] for row in enrolled} == {r["person"]["id"] for r in live.values()}
    assert len(enrolled) == len(live) > 100
    assert {row["created_at"] for row in enrolled} == {new["created_at"]}
    assert data.upgrade_sequence(old["id"]) in by_id(data.sequences())


def test_a_new_version_enrolls_those_too_whose_rows_were_put_with_keys_in_another_order() -> None:
    data = Account(0, clock=Clock(START))
    live = base_row(1, status="DRAFT", colour="blue")
    data.put(dict(reversed(live.items())))
    new_id = data.upgrade_sequence(live["sequence"]["id"])
    statuses = {row["sequence"]["id"]: row["status"] for row in data.rows()}
    assert statuses == {live["sequence"]["id"]: "FINISHED", new_id: "DRAFT"}


def test_an_account_that_is_filled_by_hand_lists_what_is_nested_whatever_the_keys_order() -> None:
    data = Account(0, clock=Clock(START))
    assert data.sequences() == []
    odd = base_row(2, sequence={"id": "2" * 8, "is_paused": "no"}, colour="blue")
    data.put_many([dict(reversed(base_row(1).items())), odd, base_row(3, sequence=None)])
    data.put_many([base_row(4, sequence={"name": "without an id"}), base_row(5, sequence="x")])
    first, second = sorted(data.sequences(), key=lambda row: len(row["id"]), reverse=True)
    assert short(first) == base_row(1)["sequence"]
    assert short(second) == {"id": "2" * 8, "name": "Sequence 22222222", "is_paused": False}
    again = Account(0, clock=Clock(START))
    again.put(base_row(1))
    assert again.sequences() == [first]


def test_of_two_names_the_list_shows_that_of_the_enrollment_updated_last() -> None:
    data = Account(0, clock=Clock(START))
    name = base_row(1)["sequence"]["id"]
    for number, title in ((3, "first"), (9, "third"), (6, "second")):
        at = f"2026-07-01T00:00:0{number}Z"
        nests = {"id": name, "name": title, "is_paused": False}
        data.put(base_row(number, updated_at=at, sequence=nests))
    (listed_one,) = data.sequences()
    assert (listed_one["name"], listed_one["updated_at"]) == ("third", "2026-07-01T00:00:09Z")
    data.rename_sequence(name, "fourth")
    data.put(base_row(4, updated_at="2026-07-02T00:00:00Z"))
    assert [row["name"] for row in data.sequences()] == ["fourth"]


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+05:30", "9999-12-31T23:59:59-05:00", "now", None]
)
def test_impossible_dates_do_not_keep_a_sequence_out_of_the_list(at: str | None) -> None:
    data = Account(0, clock=Clock(START))
    data.put(base_row(1, created_at=at, updated_at=at))
    (row,) = data.sequences()
    assert instant(row["created_at"]) <= instant(row["updated_at"])


def test_a_sequence_is_listed_once_its_first_enrollment_is_visible() -> None:
    data = Account(0, clock=Clock(START))
    data.put(base_row(1), visible_at=START + timedelta(seconds=5))
    assert data.sequences() == []
    data.clock.advance(timedelta(seconds=5))
    assert len(data.sequences()) == 1


def test_sequences_change_now_and_then_while_the_account_lives() -> None:
    data = Account(2000)
    before = by_id(data.sequences())
    with Sandbox(data, changes_per_second=200):
        time.sleep(1)
    after = by_id(data.sequences())
    assert after.keys() == before.keys()
    assert after != before
    assert nested(data) == {name: short(row) for name, row in after.items()}
    Account(0).edit_any_sequence(seed=1)


def test_a_sequence_that_is_renamed_while_pages_are_read_moves_to_its_new_place() -> None:
    with Sandbox(account(MANY)) as sandbox:
        reading = pages(sandbox, SEQUENCES, limit=10)
        first = next(reading)
        sandbox.account.rename_sequence(first[0]["id"], "Renamed")
        rest = [row for page in reading for row in page]
    assert (rest[-1]["id"], rest[-1]["name"]) == (first[0]["id"], "Renamed")
    assert len(first) + len(rest) == 51
