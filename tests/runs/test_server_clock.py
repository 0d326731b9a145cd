"""A server whose clock is off: a run says so, and nothing is lost once the clock is put right."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import dlt
import duckdb
import pytest
from commands import command
from conftest import KEY
from listing import version
from raw_server import Asked, raw_server, response

from unify_source import UnifyError, sync, unify_source
from unify_source.common.times import rfc3339
from unify_source.load.packages import cursor, row_counts
from unify_source.sandbox import Account, Clock, Request, Sandbox

Serve = Callable[..., Sandbox]

REPLIES = "reply_email_messages"
YEAR = timedelta(days=365)


def served(serve: Serve) -> Sandbox:
    return serve(Account(60, clock=Clock(datetime.now(timezone.utc))))


def load(pipeline: dlt.Pipeline, api: Sandbox) -> list[str]:
    notices = sync(pipeline, api_key=KEY, base_url=api.url).notices
    return [notice for notice in notices if "clock" in notice]


def lose_a_reply(api: Sandbox) -> None:
    row = next(row for row in api.account.rows() if row["reply_email_message"])
    now = api.account.clock.now().isoformat()
    api.account.put({**row, "reply_email_message": None, "updated_at": now})
    api.account.clock.advance(timedelta(seconds=2))


@pytest.mark.long
@pytest.mark.parametrize("off", [timedelta(minutes=6), 900 * YEAR])
def test_a_clock_that_was_ahead_is_noticed_and_the_next_run_ends_equal(
    off: timedelta, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = served(serve)
    clock = api.account.clock
    clock.advance(off)
    [notice] = load(pipeline, api)
    assert clock.now().isoformat()[:10] in notice
    newest = max(datetime.fromisoformat(row["updated_at"][:19]) for row in api.account.rows())
    assert str(cursor(pipeline))[:19] == str(newest)
    replies = row_counts(pipeline)[REPLIES]

    clock.advance(-off)
    lose_a_reply(api)

    assert load(pipeline, api) == []
    assert row_counts(pipeline)[REPLIES] == replies - 1


@pytest.mark.parametrize(
    "off",
    [
        timedelta(minutes=10),
        50 * YEAR,
        *(pytest.param(off, marks=pytest.mark.long) for off in (timedelta(days=2), 10 * YEAR)),
    ],
)
def test_a_clock_that_was_behind_is_noticed_and_the_next_run_loads_what_it_left_out(
    off: timedelta, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = served(serve)
    clock = api.account.clock
    api.account.change(1, seed=0)
    clock.advance(timedelta(seconds=2) - off)
    [notice] = load(pipeline, api)
    assert clock.now().isoformat()[:10] in notice
    assert "run it again" in notice
    assert row_counts(pipeline)["enrollments"] < len(api.account)

    clock.advance(off)

    assert load(pipeline, api) == []
    assert row_counts(pipeline)["enrollments"] == len(api.account)


def test_rows_stamped_by_a_clock_that_was_ahead_make_a_later_run_say_how_to_go_on(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = served(serve)
    api.account.clock.advance(YEAR)
    lose_a_reply(api)
    load(pipeline, api)
    api.account.clock.advance(-YEAR)

    with pytest.raises(UnifyError, match="backfill from") as caught:
        load(pipeline, api)

    assert api.account.clock.now().isoformat()[:10] in caught.value.next_step


def test_a_run_that_a_clock_set_back_ends_does_not_claim_to_succeed(
    serve: Serve, pipeline: dlt.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    api = served(serve)
    load(pipeline, api)
    api.account.clock.advance(-10 * YEAR)

    with caplog.at_level(logging.WARNING), pytest.raises(UnifyError, match="set back"):
        load(pipeline, api)

    assert "this run loads no row that was updated after that" in caplog.text


def test_three_lines_warn_as_well_and_check_blames_neither_clock_alone(
    serve: Serve, pipeline: dlt.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    api = served(serve)
    api.account.clock.advance(YEAR)
    with caplog.at_level(logging.WARNING, "unify_source"):
        pipeline.run(unify_source(api_key=KEY, base_url=api.url))
    assert "The API's clock says" in caplog.text

    ran = command("check", UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=api.url)
    assert ran.returncode == 2
    assert "behind the server's" in ran.stderr
    assert "the server's clock, or that of a proxy, is wrong" in ran.stderr


def test_every_request_for_a_list_is_closed_at_the_servers_time(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = served(serve)
    load(pipeline, api)

    lists = [dict(asked.query) for asked in api.requests if asked.path.endswith("/enrollments")]
    ends = [query["updated_before"] for query in lists if query != {"limit": "1"}]
    assert len(ends) >= 1
    assert max(ends) <= rfc3339(api.account.clock.now())


def test_no_cursor_passes_the_servers_time_though_rows_of_the_future_are_listed(
    pipeline: dlt.Pipeline,
) -> None:
    now = datetime.now(timezone.utc)
    ahead = {**version("e2", "02Z"), "updated_at": rfc3339(now + YEAR)}
    page = {"enrollments": [version("e1", "01Z"), ahead], "sequences": [], "next_cursor": None}

    def heeds_no_bounds(_: Asked, to: socket.socket) -> None:
        to.sendall(response(page, Date=format_datetime(now, usegmt=True)))

    with raw_server(heeds_no_bounds) as api:
        sync(pipeline, api_key=KEY, base_url=api.url)

    reached = cursor(pipeline)
    assert reached
    assert reached <= now


def test_no_cursor_passes_the_window_though_a_row_that_is_asked_for_by_id_is_newer(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    clock = Clock(datetime.now(timezone.utc) - YEAR)
    made = Account(30, clock=clock)
    odd, other, *_ = made.rows()
    made.put({**odd, "is_paused": "perhaps"})

    def happen(request: Request) -> None:
        # The window is closed by now. Quarantined rows are requested before the list is read.
        if request.path.endswith(odd["id"]) and clock.now() < after:
            for row in (other, odd):
                clock.advance(timedelta(minutes=1))
                made.put({**row, "status": "DRAFT", "updated_at": rfc3339(clock.now())})

    api = serve(made, on_request=happen)
    after = clock.now() + timedelta(minutes=1)
    for _ in range(3):
        clock.advance(timedelta(seconds=2))
        sync(pipeline, api_key=KEY, base_url=api.url, lookback="0s")

    with duckdb.connect("unify_gtm.duckdb") as stored:
        drafts = stored.execute("SELECT id FROM unify.enrollments WHERE status = 'DRAFT'")
        assert {odd["id"], other["id"]} <= {key for (key,) in drafts.fetchall()}
