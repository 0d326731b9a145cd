"""A sync loads what the API shows: all of it at first, then only what changed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
import duckdb
import pytest
from commands import command
from conftest import IS_SOAK, KEY
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from listing import SECONDS, Row, instant, listing, version
from warehouse import columns_by_table, shown, stored

from unify_source import unify_source, verify
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import UnifyError
from unify_source.common.resources import BY_NAME, FLAG, INSTANT, QUARANTINE, TABLES, TEXT
from unify_source.load.packages import cursor
from unify_source.runs.report import Report
from unify_source.runs.sync import sync
from unify_source.sandbox import Account, Clock, Sandbox

Serve = Callable[..., Sandbox]

START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
FILE = "unify_gtm.duckdb"
# The first example that hypothesis draws is always the simplest, in which nothing happens.
EXAMPLES = int(os.environ.get("UNIFY_TEST_ROUNDS", "2"))
DUCKDB_TYPES = {TEXT: "VARCHAR", FLAG: "BOOLEAN", INSTANT: "TIMESTAMP WITH TIME ZONE"}


def account(size: int = 300, **options: Any) -> Account:
    """Return an account whose clock stands still, so that a test says what a run can see."""
    return Account(size, clock=Clock(START), **options)


def load(pipeline: dlt.Pipeline, api: Sandbox | str, **more: Any) -> Report:
    url = api if isinstance(api, str) else api.url
    return sync(pipeline, api_key=KEY, base_url=url, **more)


def change(changing: Account, count: int, seed: int = 1) -> None:
    changing.change(count, seed=seed)
    changing.clock.advance(timedelta(seconds=1))


def loads(file: str = FILE) -> list[tuple[Any, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute("SELECT * FROM unify._dlt_loads ORDER BY load_id").fetchall()


def repeated_keys(file: str = FILE) -> list[tuple[str, str]]:
    with duckdb.connect(file, read_only=True) as connection:
        return [
            (table.name, key)
            for table in (*TABLES, QUARANTINE)
            for (key,) in connection.execute(
                f"SELECT id FROM unify.{table.name} GROUP BY id HAVING count(*) > 1"
            ).fetchall()
        ]


def ids(table: str) -> set[str]:
    with duckdb.connect(FILE, read_only=True) as connection:
        return {key for (key,) in connection.execute(f"SELECT id FROM unify.{table}").fetchall()}


def assert_columns_are_as_promised() -> None:
    found = columns_by_table(FILE)
    for table in (*TABLES, QUARANTINE):
        promised = {item.name: DUCKDB_TYPES[item.type] for item in table.schema()}
        assert {name: found[table.name].get(name) for name in promised} == promised


def test_tables_equal_the_api_after_a_first_run_an_idle_one_and_one_with_changes(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(account(1_500))
    load(pipeline, api)
    assert stored(FILE) == (first := shown(api.account))
    assert repeated_keys() == []

    api.reset()
    loaded = loads()
    api.account.clock.advance(timedelta(seconds=1))
    load(pipeline, api)
    assert len(api.requests) <= 3
    assert stored(FILE) == first
    assert loads() == loaded

    for seed in range(10):
        api.account.clock.advance(timedelta(minutes=3))
        change(api.account, 50, seed)
    api.reset()
    load(pipeline, api)
    assert len(api.requests) <= 25
    assert stored(FILE) == shown(api.account) != first
    assert repeated_keys() == []


@pytest.mark.rounds
@pytest.mark.parametrize("order", ["updated", "id", *["updated_desc", "created"] * IS_SOAK])
def test_many_rows_at_one_instant_are_complete_in_any_order(
    order: str, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(account(100, one_instant=500), order=order)

    load(pipeline, api)

    assert stored(FILE) == shown(api.account)


@pytest.mark.parametrize("apart", [False, True], ids=["one page", "a page each"])
def test_of_versions_in_one_load_the_latest_stays(*, apart: bool, pipeline: dlt.Pipeline) -> None:
    orders = [(0, 2, 1), (2, 1, 0), (1, 0, 2)]
    rows = [
        version(f"e{key}", SECONDS[order[place]], status=f"S{order[place]}")
        for place in range(3)
        for key, order in enumerate(orders)
    ]

    with listing(*([row] for row in rows)) if apart else listing(rows) as url:
        load(pipeline, url)

    newest = [version(f"e{key}", "05.900Z", status="S2") for key in range(len(orders))]
    assert stored(FILE) == shown(newest)


def test_a_stored_version_is_not_replaced_by_an_older_one(pipeline: dlt.Pipeline) -> None:
    newer = [version("e1", "05.20Z", status="NEW"), version("e2", "05.900Z", status="NEW")]
    older = [version(key, "05Z", status="OLD") for key in ("e1", "e2")]
    for rows in (newer, older):
        with listing(rows) as url:
            load(pipeline, url)
    assert stored(FILE) == shown(newer)

    newest = [version(key, "05.9001Z", status="NEWEST") for key in ("e1", "e2")]
    with listing(newest) as url:
        load(pipeline, url)
    assert stored(FILE) == shown(newest)


def _reply(number: int, categories: Sequence[str]) -> Row:
    return {
        "id": f"reply-{number}",
        "subject": f"Re: {number}",
        "classifications": [
            {"id": f"class-{number}-{n}", "category": category}
            for n, category in enumerate(categories)
        ],
        "received_at": "2026-05-01T08:00:00Z",
    }


CATEGORIES = st.lists(st.sampled_from(["POSITIVE", "NEGATIVE", "NEUTRAL"]), max_size=3)
# What happens: an enrollment gets (another) reply, loses it, or gives it to a second one.
HAPPENINGS = st.one_of(
    st.tuples(st.just("gets"), st.integers(0, 3), st.integers(0, 5), CATEGORIES),
    st.tuples(st.just("loses"), st.integers(0, 3)),
    st.tuples(st.just("gives"), st.integers(0, 3), st.integers(0, 3)),
)


def happen(changing: Account, keys: list[str], happening: Any) -> None:
    what, first, *more = happening
    rows = {key: changing.get(key) or {} for key in keys}
    before = copy.deepcopy(rows)
    one = rows[keys[first]]
    if what == "gets":
        number, categories = more
        for row in rows.values():
            if (row["reply_email_message"] or {}).get("id") == f"reply-{number}":
                row["reply_email_message"] = None
        one["reply_email_message"] = _reply(number, categories)
    elif what == "loses":
        one["reply_email_message"] = None
    elif more[0] != first:
        other = rows[keys[more[0]]]
        other["reply_email_message"], one["reply_email_message"] = one["reply_email_message"], None
    changing.clock.advance(timedelta(milliseconds=1))
    now = changing.clock.now().isoformat()
    changing.put_many({**row, "updated_at": now} for key, row in rows.items() if row != before[key])


@pytest.mark.rounds
@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.lists(HAPPENINGS, min_size=1, max_size=4), min_size=2, max_size=4))
def test_replies_and_classifications_follow_their_enrollments(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[Any]]
) -> None:
    folder = tmp_path_factory.mktemp("replies")
    changing = account(4)
    keys = changing.ids()
    pipeline = open_pipeline(
        "replies", "duckdb", "unify", credentials=f"{folder}/r.duckdb", pipelines_dir=str(folder)
    )
    with Sandbox(changing, key=KEY) as api:
        for happenings in runs:
            for happening in happenings:
                happen(changing, keys, happening)
            changing.clock.advance(timedelta(minutes=30))
            load(pipeline, api)

            assert stored(folder / "r.duckdb") == shown(changing)


def test_rows_without_play_and_reply_make_every_table_with_every_column_and_type(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    bare = account(0)
    bare.put_many(
        {**row, "enrolled_by_play": None, "reply_email_message": None}
        for row in account(150).rows()
    )
    load(pipeline, serve(bare))

    assert_columns_are_as_promised()
    assert stored(FILE) == shown(bare)
    assert ids("plays") == ids("reply_email_messages") == set()

    bare.put_many({**row, "updated_at": START.isoformat()} for row in account(150).rows())
    load(pipeline, serve(bare))
    assert stored(FILE) == shown(bare)
    assert ids("reply_classifications")


EXAMPLE = """
{
  "enrollments": [
    {
      "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
      "created_at": "2023-11-07T05:31:56Z",
      "updated_at": "2023-11-07T05:31:56Z",
      "sequence": {
        "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "name": "<string>",
        "is_paused": true
      },
      "person": {
        "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "email": "jsmith@example.com",
        "first_name": "<string>",
        "last_name": "<string>",
        "linkedin_url": "<string>"
      },
      "mailbox": {
        "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "email": "jsmith@example.com",
        "display_name": "<string>",
        "is_paused": true,
        "is_unauthorized": true
      },
      "reply_email_message": {
        "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "subject": "<string>",
        "classifications": [
          {
            "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a"
          }
        ],
        "received_at": "2023-11-07T05:31:56Z"
      },
      "is_blocked": true,
      "is_bounced": true,
      "is_canceled": true,
      "is_excluded": true,
      "is_opted_out": true,
      "is_paused": true,
      "is_replied": true,
      "started_at": "2023-11-07T05:31:56Z",
      "ended_at": "2023-11-07T05:31:56Z"
    }
  ],
  "next_cursor": null
}
"""


def test_the_example_in_the_api_reference_loads_with_nulls_for_missing_fields(
    pipeline: dlt.Pipeline,
) -> None:
    with listing(json.loads(EXAMPLE)["enrollments"]) as url:
        load(pipeline, url)

    key, at = "3c90c3cc-0d44-4b50-8888-8dd25736052a", datetime(2023, 11, 7, 5, 31, 56)  # noqa: DTZ001 - its zone follows
    then = at.replace(tzinfo=timezone.utc)
    assert stored(FILE) == {
        "enrollments": [(key, then, then, then, then, None, *[True] * 7, key, key, key, None, key)],
        "sequences": [(key, "<string>", True, *[None] * 5)],
        "people": [(key, "jsmith@example.com", "<string>", "<string>", "<string>")],
        "mailboxes": [(key, "jsmith@example.com", "<string>", True, True)],
        "plays": [],
        "reply_email_messages": [(key, "<string>", then, key)],
        "reply_classifications": [(key, None, key)],
        "users": [],
        "send_schedules": [],
        "sequence_rulesets": [],
    }
    assert_columns_are_as_promised()


@pytest.mark.parametrize("part", ["sequence", "person", "mailbox", "enrolled_by_play"])
def test_a_filter_loads_what_it_names_and_nothing_else(
    part: str, serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve()
    rows = api.account.rows()
    wanted = next(row[part]["id"] for row in rows if row[part])

    load(pipeline, api, **{f"{part}_id": wanted})

    assert stored(FILE) == shown(
        [row for row in rows if row[part] and row[part]["id"] == wanted], api.account.sequences()
    )


def test_several_statuses_load_the_rows_of_each(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve()

    load(pipeline, api, status=["draft", "FINISHED"])

    rows = api.account.rows()
    assert stored(FILE) == shown(
        [row for row in rows if row["status"] in ("DRAFT", "FINISHED")], api.account.sequences()
    )


def test_filtered_runs_have_cursors_of_their_own(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(account())
    load(pipeline, api, status="FINISHED")
    assert cursor(pipeline) is None
    load(pipeline, api)
    assert stored(FILE) == shown(api.account)
    unfiltered = cursor(pipeline)
    assert unfiltered is not None

    change(api.account, 200)
    load(pipeline, api, status="FINISHED")
    load(pipeline, api, status=["FINISHED", "DRAFT"])
    assert cursor(pipeline) == unfiltered
    assert stored(FILE) != shown(api.account)

    load(pipeline, api)
    assert stored(FILE) == shown(api.account)

    before = api.account.clock.now()
    change(api.account, 50, seed=2)
    load(pipeline, api)
    report = load(pipeline, api, status="FINISHED")
    rows = api.account.rows()
    assert stored(FILE) == shown(rows, api.account.sequences())
    within_lookback = [row for row in rows if instant(row) >= before - timedelta(minutes=10)]
    assert 0 < report.enrollments <= len(within_lookback)


def test_nothing_older_than_start_is_loaded(serve: Serve, pipeline: dlt.Pipeline) -> None:
    api = serve(account())
    may = datetime(2026, 5, 1, tzinfo=timezone.utc)
    recent = [row for row in api.account.rows() if instant(row) >= may]
    assert 0 < len(recent) < 300

    load(pipeline, api, start="2026-05-01")
    assert stored(FILE) == shown(recent, api.account.sequences())

    change(api.account, 50)
    load(pipeline, api, start=may)
    assert (
        stored(FILE)["enrollments"]
        == shown(row for row in api.account.rows() if instant(row) >= may)["enrollments"]
    )


@pytest.mark.parametrize("as_text", [True, False], ids=["text", "datetime"])
def test_a_range_loads_from_its_first_instant_until_before_its_last_and_leaves_the_cursor(
    serve: Serve, pipeline: dlt.Pipeline, *, as_text: bool
) -> None:
    api = serve(account())
    rows = api.account.rows()
    first, last = instant(rows[100]), instant(rows[200])
    ends: list[Any] = [first.isoformat(), last.isoformat()] if as_text else [first, last]

    pipeline.run(
        unify_source(
            api_key=KEY,
            base_url=api.url,
            updated_at=dlt.sources.incremental(initial_value=ends[0], end_value=ends[1]),
        )
    )

    assert stored(FILE) == shown(
        [row for row in rows if first <= instant(row) < last], api.account.sequences()
    )
    assert cursor(pipeline) is None
    load(pipeline, api)
    assert stored(FILE) == shown(rows, api.account.sequences())


def test_three_lines_of_dlt_a_function_and_the_command_make_the_same_tables(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account())
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", api.url)

    def all_three() -> None:
        dlt.pipeline("lines", destination="duckdb", dataset_name="unify").run(unify_source())
        sync(open_pipeline("function", "duckdb", "unify"))
        assert command("sync", "--pipeline-name", "command").returncode == 0

    for seed in range(2):
        all_three()
        for name in ("lines", "function", "command"):
            assert stored(f"{name}.duckdb") == shown(api.account)
            described = columns_by_table(f"{name}.duckdb")
            of_lines = columns_by_table("lines.duckdb")
            for table in (*TABLES, QUARANTINE):
                assert described[table.name] == of_lines[table.name]
        change(api.account, 50, seed)


def test_a_server_clock_that_was_set_back_is_an_error_not_an_empty_window(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    living = account()
    load(pipeline, serve(living))
    before = cursor(pipeline)
    rows = living.rows()

    set_back = account(0)
    set_back.clock.advance(-timedelta(days=3_650))
    with pytest.raises(UnifyError, match="clock says 2016"):
        load(pipeline, serve(set_back))

    assert cursor(pipeline) == before
    assert stored(FILE) == shown(rows, living.sequences())


def test_a_dimension_row_has_the_time_it_was_read_which_is_not_compared(
    serve: Callable[..., Sandbox], pipeline: dlt.Pipeline
) -> None:
    living = account(40)
    api = serve(living)
    load(pipeline, api)
    between = datetime.now(timezone.utc)
    living.clock.advance(timedelta(hours=1))
    changed = living.rows()[0]
    living.put({**changed, "updated_at": living.clock.now().isoformat()})
    living.clock.advance(timedelta(seconds=1))
    load(pipeline, api)

    dimensions = [table for table in BY_NAME.values() if table.newest == "known_as_of"]
    assert len(dimensions) == 7
    with duckdb.connect(FILE, read_only=True) as connection:
        read = {
            (table.name, key): at
            for table in dimensions
            for key, at in connection.sql(
                f"SELECT id, known_as_of FROM unify.{table.name}"
            ).fetchall()
        }
    assert {key for key, at in read.items() if at >= between} == {
        ("people", changed["person"]["id"]),
        ("mailboxes", changed["mailbox"]["id"]),
        *(("plays", play["id"]) for play in [changed["enrolled_by_play"]] if play),
    }
    assert verify(pipeline, api_key=KEY, base_url=api.url).verdict == "equal"
