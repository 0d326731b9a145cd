"""The local API keeps its word: what it lists, refuses, breaks and changes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from unify_source.sandbox import DRIFTS, Account, Clock, Fault, Request, Sandbox

START = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)
LIST = "/sequences/v1/enrollments"
SEQUENCES = "/sequences/v1/sequences"
Row = dict[str, Any]


def account(size: int = 1000, **options: Any) -> Account:
    return Account(size, clock=Clock(START, tick=timedelta(milliseconds=10)), **options)


def ask(sandbox: Sandbox, path: str = LIST, **query: Any) -> requests.Response:
    headers = {"x-api-key": sandbox.key}
    return requests.get(sandbox.url + path, query, headers=headers, timeout=10)


def pages(sandbox: Sandbox, path: str = LIST, **query: Any) -> Iterator[list[Row]]:
    while True:
        page = ask(sandbox, path, **query).json()
        yield page[path.rpartition("/")[2]]
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def listed(sandbox: Sandbox, path: str = LIST, **query: Any) -> list[Row]:
    return [row for page in pages(sandbox, path, **{"limit": 100, **query}) for row in page]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture(scope="module")
def still() -> Iterator[Sandbox]:
    with Sandbox(account(3000, one_instant=250)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("order", ["updated", "updated_desc", "created", "id"])
def test_pages_in_any_order_show_every_row_once_when_nothing_changes(order: str) -> None:
    field, is_down = {"id": ("id", False), "created": ("created_at", False)}.get(
        order, ("updated_at", order == "updated_desc")
    )
    with Sandbox(account(one_instant=230), order=order) as sandbox:
        rows = listed(sandbox, limit=7)
        assert sorted(row["id"] for row in rows) == sorted(sandbox.account.ids())
        values = [row["id"] if field == "id" else instant(row[field]) for row in rows]
        assert values == sorted(values, reverse=is_down)


@pytest.mark.parametrize("order", ["updated", "created"])
def test_both_bounds_are_inclusive_and_compared_as_instants(order: str) -> None:
    with Sandbox(account(), order=order) as sandbox:
        times = sorted(instant(row["updated_at"]) for row in sandbox.account.rows())
        low, high = times[200], times[700]
        elsewhere = timezone(timedelta(hours=-7))
        found = listed(
            sandbox,
            updated_after=low.astimezone(elsewhere).isoformat(),
            updated_before=high.isoformat(),
        )
        assert len(found) == sum(low <= at <= high for at in times)
        just_after = high.isoformat(timespec="microseconds")[:26] + "0001Z"
        assert len(listed(sandbox, updated_after=just_after)) == sum(at > high for at in times)


def test_each_filter_keeps_exactly_what_it_names(still: Sandbox) -> None:
    rows = still.account.rows()
    for part in ("sequence", "person", "mailbox", "enrolled_by_play"):
        wanted = next(row[part]["id"] for row in rows if row[part])
        found = listed(still, **{f"{part}_id": wanted.upper()})
        assert found == [row for row in rows if row[part] and row[part]["id"] == wanted]
    either = listed(still, status=["DRAFT", "FINISHED"])
    assert either == [row for row in rows if row["status"] != "IN_PROGRESS"]


def test_without_a_limit_a_page_holds_50(still: Sandbox) -> None:
    assert len(ask(still).json()["enrollments"]) == 50


def test_a_cursor_is_of_use_to_its_own_query_alone(still: Sandbox) -> None:
    cursor = ask(still, limit=10).json()["next_cursor"]
    assert ask(still, limit=10, cursor=cursor).status_code == 200
    for other in ({"limit": 11}, {"limit": 10, "status": "DRAFT"}):
        assert ask(still, cursor=cursor, **other).status_code == 400
    for garbage in ("", "x", cursor[:-2], "é", cursor + "="):
        problem = {"code": "invalid_cursor", "path": ["cursor"]}
        assert ask(still, limit=10, cursor=garbage).json()["errors"] == [problem]


def test_the_date_is_that_of_the_servers_clock_in_whole_seconds() -> None:
    clock = Clock(START, tick=timedelta(milliseconds=600))
    with Sandbox(Account(10, clock=clock)) as sandbox:
        dates = [parsedate_to_datetime(ask(sandbox).headers["date"]) for _ in range(3)]
    assert dates == [START, START + timedelta(seconds=1), START + timedelta(seconds=1)]


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


def test_what_is_removed_does_not_come_back_by_itself() -> None:
    data = account(10)
    row = data.rows()[0]
    data.put(row | {"status": "LATE"}, visible_at=START + timedelta(minutes=1))
    data.remove(row["id"])
    data.clock.advance(timedelta(minutes=2))
    assert data.get(row["id"]) is None
    data.put(row)
    assert data.get(row["id"]) == row


def test_a_row_is_kept_as_it_is_whatever_it_is() -> None:
    data = account(3)
    odd: list[Row] = [
        {"id": None, "x": 1},
        {"id": "7"},
        {"updated_at": "?", "id": "8", "person": "Ann"},
    ]
    data.put_many(odd)
    with Sandbox(data) as sandbox:
        rows = listed(sandbox)
        assert len(rows) == 6
        assert all(row in rows for row in odd)


def test_a_row_that_changes_while_pages_are_read_moves_to_its_new_place() -> None:
    with Sandbox(account(300)) as sandbox:
        reading = pages(sandbox, limit=100)
        first = next(reading)
        moved = first[0] | {"updated_at": "2026-08-01T12:00:00.5Z"}
        sandbox.account.put(moved)
        rest = [row for page in reading for row in page]
        assert rest[-1] == moved
        assert len(first) + len(rest) == 301


def test_changes_are_stamped_now_and_never_with_the_time_of_an_earlier_one() -> None:
    data = account()
    newest = START
    for seed in range(20):
        touched = data.change(10, seed=seed)
        times = {instant(row["updated_at"]) for row in map(data.get, touched) if row}
        assert newest < min(times) <= max(times) <= data.clock.now()
        newest = max(times)


def test_no_id_comes_twice_even_where_a_seed_does() -> None:
    data = account()
    for _ in range(3):
        data.change(300, seed=1)
    rows = data.rows()
    replies = [row["reply_email_message"] for row in rows if row["reply_email_message"]]
    classes = [one["id"] for reply in replies for one in reply["classifications"]]
    for ids in ([row["id"] for row in rows], [reply["id"] for reply in replies], classes):
        assert len(ids) == len(set(ids))


def test_a_reply_moves_in_one_step() -> None:
    data, moves = account(), 0
    home: dict[str, Row] = {}
    for seed in range(150):
        data.change(1, seed=seed)
        replies = [row for row in data.rows() if row["reply_email_message"]]
        now = {row["reply_email_message"]["id"]: row for row in replies}
        assert len(now) == len(replies)
        for name, row in now.items():
            left = data.get(home.get(name, row)["id"])
            if left and left["id"] != row["id"]:
                moves += 1
                assert left["updated_at"] == row["updated_at"]
        home = now
    assert moves > 3


def test_an_account_can_change_while_it_is_read() -> None:
    with Sandbox(account(2000, days=1), changes_per_second=500) as sandbox:
        time.sleep(0.5)
        assert len(sandbox.account.rows()) > 2000
        assert len({row["id"] for row in listed(sandbox)}) >= 2000
    assert Account(0).change(5, seed=1) == []


FAULTS = {
    "429": (429, "application/json"),
    "400": (400, "application/json"),
    "401": (401, "application/json"),
    "500": (500, "application/json"),
    "502_html": (502, "text/html; charset=utf-8"),
    "truncated_json": (200, "application/json"),
    "not_json": (200, "text/html; charset=utf-8"),
    "no_list": (200, "application/json"),
    "no_date": (200, "application/json"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_hits_the_requests_it_is_meant_for(kind: str) -> None:
    with Sandbox(account(10), faults=[Fault(kind, after=1, times=2)]) as sandbox:
        fine, hit, _, after = [ask(sandbox) for _ in range(4)]
        assert fine.json() == after.json()
        assert (hit.status_code, hit.headers["content-type"]) == FAULTS[kind]
        assert ("date" in hit.headers) == (kind != "no_date")
        assert (hit.text == fine.text) == (kind == "no_date")
        assert [request.status for request in sandbox.requests] == [
            200,
            *[FAULTS[kind][0]] * 2,
            200,
        ]


@pytest.mark.parametrize(
    ("kind", "error"), [("cut_before", "aborted"), ("cut_within", "Incomplete")]
)
def test_a_connection_can_break_before_and_within_an_answer(kind: str, error: str) -> None:
    with Sandbox(account(10), faults=[Fault(kind, times=1)]) as sandbox:
        with pytest.raises(requests.RequestException, match=error):
            ask(sandbox)
        assert ask(sandbox).ok


def test_a_cursor_can_repeat_or_be_refused() -> None:
    with Sandbox(account(500), faults=[Fault("repeat_cursor")]) as sandbox:
        first = ask(sandbox).json()["next_cursor"]
        assert ask(sandbox, cursor=first).json()["next_cursor"] == first
        sandbox.arm(Fault("bad_cursor"))
        assert ask(sandbox).ok
        assert ask(sandbox, cursor=first).json()["errors"][0]["code"] == "invalid_cursor"


def test_a_refused_request_is_told_when_to_come_back() -> None:
    with Sandbox(account(10)) as sandbox:
        found = []
        for value in (3, "date", None):
            sandbox.arm(Fault("429", value=value))
            found.append(ask(sandbox).headers.get("retry-after"))
    assert found == ["3", "Sat, 01 Aug 2026 12:00:01 GMT", None]
    with Sandbox(account(10), rate_limit=0.5) as sandbox:
        answers = [ask(sandbox) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].headers["retry-after"] == "2"


def test_faults_by_chance_are_the_same_for_the_same_seed() -> None:
    with Sandbox(account(10)) as sandbox:
        rounds = []
        for seed in (1, 1, 2):
            sandbox.arm(Fault("500", rate=0.3, seed=seed))
            rounds.append([ask(sandbox).status_code for _ in range(40)])
    assert rounds[0] == rounds[1] != rounds[2]
    assert 4 < rounds[0].count(500) < 20
    with pytest.raises(ValueError, match="no such fault"):
        Fault("flood")


def test_slow_answers_to_parallel_requests_overlap_and_do_not_delay_the_end() -> None:
    with Sandbox(account(10), latency=0.2, faults=[Fault("slow", value=0.2)]) as sandbox:
        begun = time.monotonic()
        threads = [threading.Thread(target=ask, args=(sandbox,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.4 <= time.monotonic() - begun < 1.5


def test_rows_can_change_the_moment_a_request_arrives() -> None:
    data = account(10)

    def remove(request: Request) -> None:
        assert request.status == 0
        data.remove(data.ids()[0])

    with Sandbox(data, on_request=remove) as sandbox:
        assert [len(listed(sandbox)) for _ in range(3)] == [9, 8, 7]
        sandbox.reset()
        assert sandbox.requests == []


def test_an_idle_connection_does_not_hold_the_server_up() -> None:
    with requests.Session() as session, Sandbox(account(10)) as sandbox:
        session.get(sandbox.url, timeout=10)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("options", [{"latency": 60}, {"faults": [Fault("slow", value=60)]}])
def test_a_request_that_waits_for_its_answer_does_not_hold_the_server_up(
    options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cut: list[requests.RequestException] = []

    def wait(sandbox: Sandbox) -> None:
        try:
            ask(sandbox)
        except requests.RequestException as error:
            cut.append(error)

    with Sandbox(account(10), **options) as sandbox:
        threads = [threading.Thread(target=wait, args=(sandbox,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(sandbox.requests) < 3:
            time.sleep(0.01)
        begun = time.monotonic()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 1
    assert len(cut) == 3
    assert caplog.records == []


def test_small_pages_over_one_connection_come_without_delay() -> None:
    with Sandbox(account(100)) as sandbox, requests.Session() as session:
        session.headers["x-api-key"] = sandbox.key
        begun = time.monotonic()
        for _ in range(50):
            session.get(sandbox.url + LIST, params={"limit": 1}, timeout=10)
        assert time.monotonic() - begun < 1


def test_each_drift_changes_what_it_says() -> None:
    data = account(2000)
    plain = data.rows()
    for name, expected in (("new-fields", 2000), ("changed-types", 20), ("page-example", 2000)):
        with Sandbox(data, reshape=DRIFTS[name]) as sandbox:
            changed = sum(row != old for row, old in zip(listed(sandbox), plain, strict=True))
        assert expected * 0.5 <= changed <= expected * 1.5
