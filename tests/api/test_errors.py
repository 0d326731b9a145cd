"""Every failure ends in two sentences and an exit code, and a run survives a temporary one."""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import dlt
import pytest
from conftest import KEY
from hostile import DAMAGED, SECRET, answering, assert_ended, assert_no_secret, sync_command
from raw_server import EMPTY_PAGE, Asked, raw_server, response
from warehouse import shown, stored

from unify_source.api.client import Client
from unify_source.common.errors import ApiError, ConfigurationError
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Fault, Request, Sandbox

Serve = Callable[..., Sandbox]


@pytest.fixture
def api() -> Iterator[Sandbox]:
    """Start a sandbox with a key that occurs nowhere else."""
    with Sandbox(Account(300), key=SECRET) as sandbox:
        yield sandbox


FAULTS = {
    "400": (Fault("400", after=1), 1, ["HTTP 400", "The request is invalid."]),
    "refused cursor": (Fault("bad_cursor"), 1, ["HTTP 400", "invalid_cursor at cursor"]),
    "401": (Fault("401"), 2, ["HTTP 401", "api_key"]),
    "429": (Fault("429"), 1, ["HTTP 429", "requests_per_5min"]),
    "429 for a minute": (Fault("429", value=60), 1, ["HTTP 429"]),
    "500": (Fault("500"), 1, ["HTTP 500"]),
    "502 HTML": (Fault("502_html"), 1, ["HTTP 502"]),
    "cut before": (Fault("cut_before", after=1), 1, ["connection"]),
    "cut within": (Fault("cut_within", after=1), 1, ["connection"]),
    "not JSON": (Fault("not_json", after=1), 1, ["not JSON"]),
    "truncated JSON": (Fault("truncated_json", after=1), 1, ["not JSON"]),
    "no list": (Fault("no_list", after=1), 1, ["enrollments"]),
    "cursor repeats": (Fault("repeat_cursor"), 1, ["same next_cursor"]),
    "no Date": (Fault("no_date"), 1, ["Date header"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_failure_ends_in_sentences_and_an_exit_code(
    name: str, api: Sandbox, home: Path
) -> None:
    fault, exit_code, words = FAULTS[name]
    api.arm(fault)
    before = time.monotonic()

    ran = sync_command(api.url)

    assert_ended(ran, exit_code, *words)
    assert_no_secret(ran, home)
    assert time.monotonic() - before < 20


def test_the_servers_own_errors_are_shown_and_an_echoed_key_is_not(home: Path) -> None:
    body = {
        "status": "bad_request",
        "message": "Not with THE KEY",
        "errors": [
            {"code": "invalid_enum_value", "path": ["status", 0]},
            {"code": "out_of_range", "path": ["limit"]},
        ],
    }
    with answering(400, body) as url:
        ran = sync_command(url)

    assert_ended(ran, 1, "Not with", "invalid_enum_value at status.0", "out_of_range at limit")
    assert_no_secret(ran, home)


@pytest.mark.parametrize(
    ("status", "exit_code", "headers"),
    [(403, 2, {}), (404, 1, {}), (302, 1, {"Location": "http://127.0.0.1:9/"})],
)
def test_unexpected_responses_also_end_the_run(
    status: int, exit_code: int, headers: dict[str, str], home: Path
) -> None:
    with answering(status, {"message": "no"}, **headers) as url:
        ran = sync_command(url)

    assert_ended(ran, exit_code, f"HTTP {status}")
    assert_no_secret(ran, home)


def test_a_failed_connection_says_where_to_look(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ran = sync_command(closed)

    assert_ended(ran, 1, closed, "base_url")
    assert_no_secret(ran, home)


def test_without_a_key_nothing_is_requested(api: Sandbox) -> None:
    ran = sync_command(api.url, UNIFY_API_KEY="")

    assert_ended(ran, 2, "There is no API key", "UNIFY_API_KEY", "secrets.toml")
    assert api.requests == []


def test_plain_http_to_another_host_is_refused_before_any_request(api: Sandbox) -> None:
    # Linux takes this address for this machine, so that a request would arrive.
    ran = sync_command(api.url.replace("127.0.0.1", "0.0.0.0"))

    assert_ended(ran, 2, "base_url", "https")
    assert api.requests == []


WRONG_OPTIONS = {
    "--sequence-id": "S-1",
    "--person-id": "3c90c3cc-0d44-4b50-8888",
    "--mailbox-id": "sales@x.test",
    "--play-id": "1",
    "--status": "PAUSED",
    "--workers": "0",
}
WRONG_SETTINGS = {
    "base_url": "api.unifygtm.com",
    "sequence_id": "S-1",
    "person_id": "x",
    "mailbox_id": "5",
    "enrolled_by_play_id": "play",
    "status": "DONE",
    "start": "yesterday",
    "lookback": "-10m",
    "page_size": "101",
    "workers": "1000",
    "requests_per_5min": "0",
    "window_rows": "0",
    "request_timeout": "-1",
    "retry_budget": "0",
}


def test_every_invalid_option_is_refused_by_name_before_any_request(api: Sandbox) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(
            pool.map(partial(sync_command, api.url), *zip(*WRONG_OPTIONS.items(), strict=True))
        )

    for (name, value), ran in zip(WRONG_OPTIONS.items(), ended, strict=True):
        assert_ended(ran, 2, f"Error: {name} is ")
        assert value in ran.stderr
    assert api.requests == []


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_every_invalid_setting_is_refused_by_name_before_any_request(
    name: str, api: Sandbox, pipeline: dlt.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFY_API_KEY", SECRET)
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", api.url)
    monkeypatch.setenv(f"SOURCES__UNIFY__{name.upper()}", WRONG_SETTINGS[name])

    with pytest.raises(ConfigurationError) as caught:
        sync(pipeline)

    assert name in caught.value.what
    assert WRONG_SETTINGS[name] in caught.value.what
    assert caught.value.exit_code == 2
    assert api.requests == []


def test_an_invalid_key_is_refused_without_showing_it(api: Sandbox, home: Path) -> None:
    ran = sync_command(api.url, UNIFY_API_KEY=f"{SECRET} {SECRET}")

    assert_ended(ran, 2, "api_key")
    assert_no_secret(ran, home)
    assert api.requests == []


@pytest.mark.parametrize("fault", [None, Fault("401"), Fault("500")])
def test_the_key_is_shown_nowhere_even_if_everything_is_logged(
    fault: Fault | None, api: Sandbox, home: Path
) -> None:
    api.arm(*([fault] if fault else []))

    ran = sync_command(api.url, "--verbose", RUNTIME__LOG_LEVEL="DEBUG")

    assert (ran.returncode == 0) == (fault is None)
    assert len(ran.stderr.splitlines()) > 10
    assert_no_secret(ran, home)


def test_a_broken_destination_ends_the_run_and_the_next_one_resumes(
    api: Sandbox, home: Path
) -> None:
    file = home / "unify_gtm.duckdb"
    file.write_bytes(DAMAGED)
    ran = sync_command(api.url)
    assert_ended(ran, 1, "The run failed")

    file.unlink()
    assert sync_command(api.url).returncode == 0
    assert stored(file) == shown(api.account)


def full_disk(home: Path) -> None:
    (home / "unify_gtm.duckdb.lock.json").symlink_to("/dev/full")


def lock_of_another(home: Path) -> None:
    (home / "unify_gtm.duckdb.lock").touch(mode=0o000)
    if os.access(home / "unify_gtm.duckdb.lock", os.W_OK):
        pytest.skip("this user may write everywhere")


def lock_that_is_a_folder(home: Path) -> None:
    (home / "unify_gtm.duckdb.lock").mkdir()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize(
    ("obstacle", "exit_code", "words"),
    [
        (full_disk, 1, ["No space left on device", "free some disk space"]),
        (lock_of_another, 2, ["Permission denied", "unify_gtm.duckdb.lock", "let this user"]),
        (lock_that_is_a_folder, 1, ["Is a directory", "unify_gtm.duckdb.lock"]),
    ],
)
def test_errors_of_the_operating_system_end_in_sentences(
    obstacle: Callable[[Path], None], exit_code: int, words: list[str], api: Sandbox, home: Path
) -> None:
    obstacle(home)

    ran = sync_command(api.url)

    assert_ended(ran, exit_code, *words)
    assert "[Errno" not in ran.stderr


def waited(requests: list[Request]) -> list[float]:
    """Return the seconds from each refusal to the request after it."""
    return [
        (after.at - refused.at).total_seconds()
        for refused, after in pairwise(requests)
        if refused.status == 429
    ]


@pytest.mark.parametrize(("asked", "seconds"), [(2, 2.0), ("date", 1.0)])
def test_retry_after_is_obeyed_in_seconds_and_as_a_date(
    asked: float | str, seconds: float, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(250), faults=[Fault("429", times=1, after=2, value=asked)])

    sync(pipeline, api_key=KEY, base_url=api.url, workers=1)

    assert len(waited(api.requests)) == 1
    assert seconds <= waited(api.requests)[0] < seconds + 1
    assert stored("unify_gtm.duckdb") == shown(api.account)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_server_that_asks_for_no_wait_is_not_hammered(status: int, asked: str) -> None:
    with answering(status, {}, **{"Retry-After": asked}) as url:
        asking = Client(checked_settings({"api_key": KEY, "base_url": url, "retry_budget": 2}))
        with pytest.raises(ApiError):
            asking.server_time(ENROLLMENT_LIST)

    assert 2 <= asking.requests <= 12


def test_the_shortest_wait_is_announced_as_one_second_not_zero(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tenacity.wait.random.uniform", lambda low, _high: low + 0.01)
    api = serve(Account(1), faults=[Fault("500", times=1)])

    Client(checked_settings({"api_key": KEY, "base_url": api.url})).server_time(ENROLLMENT_LIST)

    assert caplog.messages[0].endswith(" Trying again in 1 s.")


def test_requests_with_the_same_retry_after_do_not_come_back_at_once() -> None:
    arrivals = defaultdict[str, list[float]](list)
    # With 1 second, they differ by less than a busy machine may stand still.
    workers, seconds = 8, 3

    def refuse_once(asked: Asked, to: socket.socket) -> None:
        before = arrivals[asked.query["limit"]]
        before.append(time.monotonic())
        refused = response({}, 503, Retry_After=str(seconds))
        to.sendall(response(EMPTY_PAGE) if len(before) > 1 else refused)

    with raw_server(refuse_once) as server, ThreadPoolExecutor(workers) as pool:
        client = Client(checked_settings({"api_key": KEY, "base_url": server.url}))
        requests = [[("limit", str(n + 1))] for n in range(workers)]
        list(pool.map(partial(client.page, ENROLLMENT_LIST), requests))

    waits = [second - first for first, second in arrivals.values()]
    assert len(waits) == workers
    assert min(waits) >= seconds
    assert max(waits) - min(waits) > 0.02


def test_all_workers_wait_when_one_gets_a_retry_after(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(Account(3_000), latency=0.02, faults=[Fault("429", times=1, after=25, value=2)])

    sync(pipeline, api_key=KEY, base_url=api.url, workers=8, page_size=20)

    refused = next(request for request in api.requests if request.status == 429)
    since = [(request.at - refused.at).total_seconds() for request in api.requests]
    # Requests that were on their way already arrive at once.
    assert [seconds for seconds in since if 0.5 < seconds < 1.9] == []
    assert [seconds for seconds in since if seconds >= 1.9]
    assert stored("unify_gtm.duckdb") == shown(api.account)
