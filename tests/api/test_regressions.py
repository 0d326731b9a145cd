"""Bugs that were fixed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dlt
import pytest
from conftest import KEY
from hostile import DAMAGED, SECRET, answering, assert_ended, assert_no_secret, sync_command
from listing import listing, version
from warehouse import shown, stored

from unify_source.common.errors import UnifyError
from unify_source.load.packages import state_of
from unify_source.load.state.tail import MOST_TAILS
from unify_source.runs.backfill import backfill
from unify_source.runs.report import Report
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Fault, Sandbox

Serve = Callable[..., Sandbox]

FILE = "unify_gtm.duckdb"


def load(pipeline: dlt.Pipeline, api: Sandbox | str, **options: Any) -> Report:
    url = api if isinstance(api, str) else api.url
    return sync(pipeline, api_key=KEY, base_url=url, **options)


def test_a_key_echoed_in_an_errors_code_or_path_is_not_shown(home: Path) -> None:
    body = {"message": "no", "errors": [{"code": "bad_THE KEY", "path": ["THE KEY"]}]}
    with answering(400, body) as url:
        ran = sync_command(url)
    assert_ended(ran, 1, "HTTP 400")
    assert_no_secret(ran, home)


def test_a_run_survives_a_temporary_page_without_its_list(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(250), faults=[Fault("no_list", times=2, after=1)])
    load(pipeline, api)
    assert stored(FILE) == shown(api.account)


def test_a_run_survives_a_temporarily_missing_date(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(Account(250), faults=[Fault("no_date", times=1)])
    load(pipeline, api)
    assert stored(FILE) == shown(api.account)


def test_a_negative_lock_timeout_is_refused() -> None:
    with Sandbox(Account(5), key=SECRET) as api:
        assert_ended(sync_command(api.url, "--lock-timeout", "-1"), 2, "--lock-timeout is '-1'")


def test_a_destination_that_fails_says_why(home: Path) -> None:
    (home / "unify_gtm.duckdb").write_bytes(DAMAGED)
    with Sandbox(Account(5), key=SECRET) as api:
        assert_ended(sync_command(api.url), 1, "Corrupt database file")


def test_an_older_version_listed_late_does_not_win_if_the_tail_is_long(
    pipeline: dlt.Pipeline,
) -> None:
    others = [version(f"o{n}", "05.5Z") for n in range(600)]
    newer, older = version("e1", "05.900Z", status="NEW"), version("e1", "05.20Z", status="OLD")
    with listing([*others, newer]) as url:
        load(pipeline, url)
    with listing([*others, older]) as url:
        load(pipeline, url)
    assert [r[5] for r in stored(FILE)["enrollments"] if r[0] == "e1"] == ["NEW"]


def test_a_server_that_ignores_the_bounds_does_not_keep_a_run_forever(
    pipeline: dlt.Pipeline,
) -> None:
    """Three pages of a row each, whatever the bounds: a run ends, with the rows or an error."""
    pages = [[version("e1", f"0{n}Z")] for n in range(3)]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            n = int(self.path.rpartition("cursor=")[2] if "cursor=" in self.path else 0)
            following = str(n + 1) if n < 2 else None
            body = json.dumps({"enrollments": pages[n], "next_cursor": following}).encode()
            if len(asked) > 3_000:
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with suppress(UnifyError):
            load(pipeline, f"http://127.0.0.1:{server.server_address[1]}", retry_budget=1.0)
        server.shutdown()
    assert len(asked) < 1_000


def test_an_unknown_destination_is_wrong_usage() -> None:
    with Sandbox(Account(5), key=SECRET) as api:
        assert_ended(sync_command(api.url, "--destination", "duckdbb"), 2, "duckdbb")
        assert api.requests == []


@pytest.mark.parametrize("name", ["retry_budget", "request_timeout", "workers", "page_size"])
def test_an_invalid_number_in_the_environment_is_shown(
    name: str, serve: Serve, pipeline: dlt.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SOURCES__UNIFY__{name.upper()}", "soon")
    with pytest.raises(UnifyError) as caught:
        load(pipeline, serve(Account(5)))
    assert "soon" in caught.value.what


@pytest.mark.long
def test_a_thousand_changes_within_a_millisecond_take_few_requests(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(3_000))
    load(pipeline, api)
    api.account.change(1_000, seed=4)
    time.sleep(1.1)
    api.reset()

    load(pipeline, api)

    assert len(api.requests) <= 25
    assert stored(FILE) == shown(api.account)


def test_without_a_lookback_what_changed_at_the_cursors_own_instant_is_loaded(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(60))
    newest = api.account.rows()[-1]
    load(pipeline, api, lookback="0s")
    for status in ("FINISHED", "IN_PROGRESS"):
        api.account.put({**newest, "status": status})
        load(pipeline, api, lookback="0s")
        assert stored(FILE) == shown(api.account)


def statuses() -> list[str]:
    return [row[5] for row in stored(FILE)["enrollments"] if row[0] == "e1"]


@pytest.mark.parametrize("how", ["backfill", "filtered sync"])
def test_an_older_version_that_another_kind_of_run_reads_does_not_win(
    pipeline: dlt.Pipeline, how: str
) -> None:
    newer, older = version("e1", "05.900Z", status="NEW"), version("e1", "05.20Z", status="OLD")
    with listing([newer]) as url:
        load(pipeline, url)
    with listing([older]) as url:
        run_otherwise(how, pipeline, url)
    assert statuses() == ["NEW"]


def test_skipping_an_older_version_does_not_let_one_in_between_win(
    pipeline: dlt.Pipeline,
) -> None:
    for second, status in (("05.9Z", "NEW"), ("05.2Z", "OLD"), ("05.5Z", "BETWEEN")):
        with listing([version("e1", second, status=status)]) as url:
            load(pipeline, url)
        assert statuses() == ["NEW"]


@pytest.mark.long
@pytest.mark.parametrize("how", ["backfill", "filtered sync"])
def test_rows_that_another_kind_of_run_wrote_are_not_known_to_a_sync(
    pipeline: dlt.Pipeline, how: str
) -> None:
    first, other = version("e1", "05Z", status="FIRST"), version("e1", "05Z", status="OTHER")
    with listing([first]) as url:
        load(pipeline, url)
    with listing([other]) as url:
        run_otherwise(how, pipeline, url)
    assert statuses() == ["OTHER"]
    with listing([first]) as url:
        load(pipeline, url)
    assert statuses() == ["FIRST"]


def run_otherwise(how: str, pipeline: dlt.Pipeline, url: str) -> None:
    if how == "backfill":
        backfill(pipeline, "2000-01-01", api_key=KEY, base_url=url)
    else:
        load(pipeline, url, status="DRAFT")


@pytest.mark.long
def test_filters_that_are_never_used_again_do_not_fill_the_state(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(Account(500))
    people = {row["person"]["id"] for row in api.account.rows()[-6:]}
    for person in people:
        load(pipeline, api, person_id=person, lookback="300d")
    assert len(people) > MOST_TAILS
    assert len(state_of(pipeline)["tails"]) <= MOST_TAILS
