"""The local API goes wrong on demand, and is never in its own way."""

import threading
import time
from typing import Any

import pytest
import requests
from asking import LIST, account, ask, listed

from unify_source.sandbox import DRIFTS, Fault, Request, Sandbox

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
def test_a_fault_hits_the_intended_requests(kind: str) -> None:
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


def test_a_refused_request_says_when_to_retry() -> None:
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
        assert 0.4 <= time.monotonic() - begun < 10 * 0.4


def test_rows_can_change_the_moment_a_request_arrives() -> None:
    data = account(10)

    def remove(request: Request) -> None:
        assert request.status == 0
        data.remove(data.ids()[0])

    with Sandbox(data, on_request=remove) as sandbox:
        assert [len(listed(sandbox)) for _ in range(3)] == [9, 8, 7]
        sandbox.reset()
        assert sandbox.requests == []


def test_an_idle_connection_does_not_keep_the_server_from_stopping() -> None:
    with requests.Session() as session, Sandbox(account(10)) as sandbox:
        session.get(sandbox.url, timeout=10)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize("options", [{"latency": 60}, {"faults": [Fault("slow", value=60)]}])
def test_a_waiting_request_does_not_keep_the_server_from_stopping(
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
    assert time.monotonic() - begun < 30
    assert len(cut) == 3
    assert caplog.records == []


def test_small_pages_over_one_connection_come_without_delay() -> None:
    with Sandbox(account(100)) as sandbox, requests.Session() as session:
        session.headers["x-api-key"] = sandbox.key
        begun = time.monotonic()
        for _ in range(50):
            session.get(sandbox.url + LIST, params={"limit": 1}, timeout=10)
        # Packets that wait for each other's acknowledgement cost 40 ms a page.
        assert time.monotonic() - begun < 50 * 0.04


def test_each_drift_changes_what_it_says() -> None:
    data = account(2000)
    plain = data.rows()
    for name, expected in (("new-fields", 2000), ("changed-types", 20), ("page-example", 2000)):
        with Sandbox(data, reshape=DRIFTS[name]) as sandbox:
            changed = sum(row != old for row, old in zip(listed(sandbox), plain, strict=True))
        assert expected * 0.5 <= changed <= expected * 1.5
