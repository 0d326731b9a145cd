"""An account of the local API is lifelike, and the same for the same arguments."""

from collections import Counter
from datetime import timedelta

import pytest
from asking import START, Row, account, instant


def test_the_same_arguments_make_the_same_account_and_the_same_changes() -> None:
    one, two, other = account(seed=7), account(seed=7), account(seed=8)
    assert one.rows() == two.rows() != other.rows()
    assert one.change(200, seed=3) == two.change(200, seed=3)
    assert one.rows() == two.rows()
    assert one.change(200, seed=4) != two.change(200, seed=5)


@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("days", [1, 400])
@pytest.mark.parametrize("crowded", [0.0, 0.9, 1.0])
def test_the_newest_ten_minutes_are_sparse_and_the_future_is_empty(
    size: int, days: int, crowded: float
) -> None:
    times = [instant(row["updated_at"]) for row in account(size, days=days, crowded=crowded).rows()]
    assert 1 <= sum(at > START - timedelta(minutes=10) for at in times) <= 50
    assert START - timedelta(days=days) <= min(times) <= max(times) <= START
    fullest = max(Counter(int((START - at) / timedelta(days=days) * 100) for at in times).values())
    assert crowded == 0.0 or fullest > crowded * size * 0.45


def test_rows_can_share_an_instant_as_after_an_edit_of_many() -> None:
    times = Counter(row["updated_at"] for row in account(5000, one_instant=700).rows())
    assert times[(START - timedelta(days=200)).isoformat().replace("+00:00", "Z")] == 700
    edited = sum(count for count in times.values() if 50 <= count < 700)
    assert 450 <= edited <= 500


def test_the_data_is_as_odd_as_life() -> None:
    rows = account(20_000).rows()
    replies = [row["reply_email_message"] for row in rows if row["reply_email_message"]]
    assert 0.13 < len(replies) / len(rows) < 0.17
    assert all(row["is_replied"] == (row["reply_email_message"] is not None) for row in rows)
    assert {len(reply["classifications"]) for reply in replies} == {0, 1, 2, 3, 4}
    subjects = [reply["subject"] for reply in replies]
    assert {type(subject) for subject in subjects} == {str, type(None)}
    assert max(len(subject or "") for subject in subjects) > 10_000
    text = "".join(filter(None, subjects))
    assert all(odd in text for odd in ('"', "\\", "\n", "\t", "🚀", "\u0301", "价", "رد"))
    nullable = [("started_at",), ("ended_at",), ("enrolled_by_play",), ("mailbox", "display_name")]
    nullable += [("person", name) for name in ("first_name", "last_name", "linkedin_url")]
    for path in nullable:
        values = [row[path[0]] if len(path) == 1 else row[path[0]][path[1]] for row in rows]
        assert None in values
        assert any(values)
    assert {len(row["updated_at"]) for row in rows} == {20, 24, 27}


def test_no_enrollment_starts_before_it_exists_or_ends_before_it_starts() -> None:
    data = account(5000, days=1)
    data.change(1000, seed=1)
    for row in data.rows():
        steps = [row[name] for name in ("created_at", "started_at", "ended_at", "updated_at")]
        times = [instant(step) for step in steps if step]
        assert times == sorted(times)


def test_what_enrollments_share_reads_the_same_everywhere_after_renames() -> None:
    data = account()
    before = {row["sequence"]["id"]: row["sequence"] for row in data.rows()}
    data.change(300, seed=1)
    for part in ("sequence", "person", "mailbox"):
        seen: dict[str, Row] = {}
        assert all(seen.setdefault(row[part]["id"], row[part]) == row[part] for row in data.rows())
    assert before != {row["sequence"]["id"]: row["sequence"] for row in data.rows()}


def test_a_row_put_for_later_shows_its_previous_version_until_then() -> None:
    data = account(10)
    old = data.rows()[0]
    due = START + timedelta(seconds=5)
    data.put_many([old | {"status": "X"}, old | {"id": "new"}], visible_at=due)
    assert data.get(old["id"]) == old
    assert data.get("new") is None
    data.clock.advance(timedelta(seconds=5))
    assert data.get(old["id"]) == old | {"status": "X"}
    assert len(data) == 11
    data.change(20, seed=1, visible_after=timedelta(minutes=1))
    assert len(data.rows()) == 11
    data.remove("new")
    assert data.get("new") is None


def test_a_version_that_was_overtaken_does_not_come_back() -> None:
    data = account(10)
    row = data.rows()[0]
    data.put(row | {"status": "OLD"}, visible_at=START + timedelta(seconds=5))
    data.put(row | {"status": "NEW"})
    data.clock.advance(timedelta(seconds=9))
    assert data.get(row["id"]) == row | {"status": "NEW"}


def test_versions_put_for_later_each_show_in_their_turn() -> None:
    data = account(10)
    row = data.rows()[0]
    for second, status in ((3, "ONE"), (6, "TWO")):
        data.put(row | {"status": status}, visible_at=START + timedelta(seconds=second))
    seen = []
    for _ in range(4):
        found = data.get(row["id"])
        seen.append(found and found["status"])
        data.clock.advance(timedelta(seconds=2))
    assert seen == [row["status"], row["status"], "ONE", "TWO"]


def test_a_removed_row_does_not_come_back_by_itself() -> None:
    data = account(10)
    row = data.rows()[0]
    data.put(row | {"status": "LATE"}, visible_at=START + timedelta(minutes=1))
    data.remove(row["id"])
    data.clock.advance(timedelta(minutes=2))
    assert data.get(row["id"]) is None
    data.put(row)
    assert data.get(row["id"]) == row
