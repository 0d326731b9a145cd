"""A server whose clock is ahead: a run says so, and nothing is lost once the clock is put right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import dlt
import pytest
from commands import command
from conftest import KEY

from unify_source import UnifyError, sync, unify_source
from unify_source.load.packages import cursor, row_counts
from unify_source.sandbox import Account, Clock, Sandbox

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


@pytest.mark.parametrize("off", [timedelta(minutes=6), YEAR, 900 * YEAR])
def test_a_clock_that_was_ahead_is_noticed_and_the_next_run_is_right(
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
