"""Changes to an account of the local API are lifelike, each in one step and at its own time."""

import time

from asking import START, Row, account, instant, listed

from unify_source.sandbox import Account, Sandbox


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
