"""What users can rely on, on every destination: one set of tests, run on each of them."""

from __future__ import annotations

import json
import shutil
import time
from datetime import timedelta
from typing import Any

import pytest
from conftest import KEY, rounds_and_chance, start_and_kill, start_command
from destinations import Destination, DuckDB, Postgres
from dying import IN_A_LOAD, MERGING
from held import Held, held, lost
from listing import SECONDS, listing, version
from loaded import loaded
from patience import PATIENCE
from standing import START, Serve, account, change, load
from turns import FailsAfterAWindow
from warehouse import shown

from unify_source import UnifyError, backfill, sync, unify_source
from unify_source.common.resources import FLAG, INSTANT, QUARANTINE, TABLES, TEXT
from unify_source.load.packages import cursor, quarantined
from unify_source.sandbox import DRIFTS, Account

Row = dict[str, Any]

TYPES = {TEXT: "text", FLAG: "bool", INSTANT: "timestamp"}


def assert_unique(warehouse: Destination) -> None:
    rows = warehouse.reads_each({table.name: ["id"] for table in (*TABLES, QUARANTINE)})
    assert {name: len(keys) - len(set(keys)) for name, keys in rows.items()} == dict.fromkeys(
        rows, 0
    )


@pytest.mark.promise("P1", "P2", "P13")
def test_tables_equal_the_api_at_first_after_nothing_and_after_changes(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(400))
    load(warehouse, api)
    assert warehouse.stored() == (first := shown(api.account))

    api.account.clock.advance(timedelta(seconds=1))
    done = len(warehouse.loads())
    load(warehouse, api)
    assert warehouse.stored() == first
    assert len(warehouse.loads()) == done + warehouse.loads_without_news

    change(api.account, 100)
    load(warehouse, api)
    assert warehouse.stored() == shown(api.account) != first
    assert_unique(warehouse)


@pytest.mark.promise("P1", "P2", "P4", "P6", "P12")
def test_three_lines_of_dlt_keep_the_promises_as_well(serve: Serve, warehouse: Destination) -> None:
    api = serve(account())
    for seed in range(2):
        pipeline = warehouse.pipeline(machine=str(seed))
        pipeline.run(unify_source(api_key=KEY, base_url=api.url))
        assert warehouse.stored() == shown(api.account)
        change(api.account, 100, seed)
    assert_unique(warehouse)


@pytest.mark.promise("P3")
@pytest.mark.parametrize("apart", [False, True], ids=["in one load", "in two loads"])
def test_of_two_versions_the_newer_stays(warehouse: Destination, *, apart: bool) -> None:
    old, newer, newest = (version("e1", s, status=f"S{n}") for n, s in enumerate(SECONDS))

    for rows in [[newest], [old, newer]] if apart else [[old, newest, newer]]:
        with listing(rows) as url:
            load(warehouse, url)

    assert warehouse.stored() == shown([newest])


@pytest.mark.promise("P4")
def test_replies_and_classifications_deleted_upstream_are_deleted_here(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    rows = [row for row in api.account.rows() if row["reply_email_message"]]
    now = (START + timedelta(minutes=1)).isoformat()
    gone, less, moved, *_ = rows
    other = next(row for row in api.account.rows() if not row["reply_email_message"])
    less_reply = {**less["reply_email_message"], "classifications": []}
    api.account.put_many(
        [
            {**gone, "reply_email_message": None, "updated_at": now},
            {**less, "reply_email_message": less_reply, "updated_at": now},
            {**moved, "reply_email_message": None, "updated_at": now},
            {**other, "reply_email_message": moved["reply_email_message"], "updated_at": now},
        ]
    )
    api.account.clock.advance(timedelta(minutes=2))

    load(warehouse, api)

    expected = shown(api.account)
    assert len(expected["reply_email_messages"]) == len(rows) - 1
    assert warehouse.stored() == expected


@pytest.mark.promise("P1")
def test_texts_arrive_unchanged_even_empty_and_odd_ones(warehouse: Destination) -> None:
    texts = ["", " ", "NULL", "\\N", '"', "'", "a,b;c\td", "two\nlines\r\n", "\\.", "ü☃😀", "%s{}"]
    rows = [
        version(f"e{n}", "05Z", sequence={"id": f"s{n}", "name": text, "is_paused": False})
        for n, text in enumerate(texts)
    ]

    with listing(rows) as url:
        load(warehouse, url)

    assert warehouse.stored() == shown(rows)


ADDED = {
    "beta_text": "text",
    "beta_count": "bigint",
    "beta_share": "double",
    "beta_flag": "bool",
    "beta_at": "timestamp",
    "beta_object__level": "text",
    "beta_object__inner__level": "text",
    "beta_object__inner__count": "bigint",
    "beta_list": "json",
}


@pytest.mark.promise("P9")
def test_new_fields_become_columns_in_the_same_run(serve: Serve, warehouse: Destination) -> None:
    living = loaded(warehouse, serve).account
    change(living, 100)

    drifted = serve(living, reshape=DRIFTS["new-fields"])
    load(warehouse, drifted)
    change(living, 100, seed=2)
    load(warehouse, drifted)

    assert warehouse.stored() == shown(living)
    for table in ("enrollments", "people", "reply_email_messages"):
        found = warehouse.columns(table)
        added = {**ADDED, "beta_list": warehouse.json}
        assert {name: found.get(name) for name in added} == added
        assert "beta_nothing" not in found
    names = ["beta_text", "beta_count", "beta_share", "beta_flag", "beta_object__inner__count"]
    values = warehouse.reads("enrollments", [*names, "beta_list"])
    values = [(*row[:-1], _parsed(row[-1])) for row in values if row[0] is not None]
    assert len(values) > 100
    assert all(row == ("new", 36, 0.25, True, 2, ["a", "b"]) for row in values)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


@pytest.mark.promise("P9")
def test_unreadable_rows_go_to_quarantine_and_return_once_fixed(
    serve: Serve, warehouse: Destination
) -> None:
    living = account()
    broken = dict.fromkeys(living.ids()[:3], "paused")

    def reshape(row: Row) -> Row:
        return {**row, "is_paused": broken[row["id"]]} if row["id"] in broken else row

    api = serve(living, reshape=reshape)
    load(warehouse, api)
    raw = warehouse.reads(QUARANTINE.name, ["id", "reason", "raw"])
    assert {key: json.loads(text)["id"] for key, _, text in raw} == {key: key for key in broken}
    assert {reason for _, reason, _ in raw} == {"is_paused is text, not true or false"}
    good = [row for row in living.rows() if row["id"] not in broken]
    assert warehouse.stored()["enrollments"] == shown(good)["enrollments"]

    broken.clear()
    living.clock.advance(timedelta(seconds=1))
    load(warehouse, api)

    assert quarantined(warehouse.pipeline()) == 0
    assert warehouse.keys(QUARANTINE.name) == []
    assert warehouse.stored() == shown(living)


@pytest.mark.promise("P12")
def test_an_empty_account_creates_every_table_with_every_column_and_type(
    serve: Serve, warehouse: Destination
) -> None:
    load(warehouse, serve(account(0)))

    for table in (*TABLES, QUARANTINE):
        found = warehouse.columns(table.name)
        promised = {item.name: TYPES[item.type] for item in table.schema()}
        assert {name: found.get(name) for name in promised} == promised
    assert not any(warehouse.stored().values())
    assert warehouse.keys(QUARANTINE.name) == []


@pytest.mark.promise("P6")
def test_with_an_empty_working_folder_the_next_run_is_incremental(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    reached = cursor(warehouse.pipeline())
    shutil.rmtree("machines")
    change(api.account, 50)
    api.reset()

    again = sync(warehouse.pipeline(machine="two"), api_key=KEY, base_url=api.url, page_size=20)

    assert reached
    assert len(api.requests) <= 10
    assert 0 < again.enrollments < 150
    assert warehouse.stored() == shown(api.account)


@pytest.mark.promise("P5", "P2")
@pytest.mark.rounds
def test_a_run_killed_at_any_point_and_repeated_ends_equal(
    serve: Serve, warehouse: Destination
) -> None:
    # At a random instant, and where the destination takes part; the others are tried on DuckDB.
    rounds, chance = rounds_and_chance(len(IN_A_LOAD) + 1 if isinstance(warehouse, DuckDB) else 4)
    # In a lake a merge is no SQL, and elsewhere not by dlt's own code.
    has_merges = isinstance(warehouse, (DuckDB, Postgres))
    points = [point for point in reversed(IN_A_LOAD) if has_merges or point != MERGING]
    kills: list[str | None] = [*points[:1], None, *points[1:]]
    api = serve(Account(600, seed=chance.randrange(10**6)))
    to = ("--quiet", "--destination", warehouse.dlt_name)
    runs = (("sync", *to), ("backfill", "--from", "2000-01-01", *to))
    before: Held | None = {}
    for number in range(rounds):
        # Each point with each command, in the end.
        turn, at = divmod(number, len(kills))
        point, words = kills[at], runs[(turn + at) % len(runs)]
        times = chance.randint(1, IN_A_LOAD[point]) if point else 1
        start_and_kill(api, *words, at=point or chance.uniform(0, 0.7), times=times)
        after = held(warehouse)
        assert lost(before, after, api.account) == {}
        before = after or before
        api.account.change(100, seed=chance.randrange(10**6))

    api.account.clock.advance(timedelta(seconds=2))
    last = start_command(api, *runs[0])
    _, errors = last.communicate(timeout=PATIENCE)

    assert (last.returncode, errors) == (0, "")
    assert warehouse.stored() == shown(api.account)
    assert_unique(warehouse)


@pytest.mark.promise("P7")
@pytest.mark.rounds
def test_two_runs_at_once_lose_duplicate_and_revert_no_row(
    serve: Serve, warehouse: Destination
) -> None:
    rounds, chance = rounds_and_chance(1)
    to = ("--quiet", "--destination", warehouse.dlt_name, "--lock-timeout", "1000")
    kinds = (("sync", *to), ("backfill", "--from", "2000-01-01", *to))
    api = serve(Account(500, seed=chance.randrange(10**6)))
    for _ in range(rounds):
        runs = []
        for words in chance.choices(kinds, k=2):
            api.account.change(100, seed=chance.randrange(10**6))
            runs.append(start_command(api, *words, window_rows=200))
            time.sleep(chance.uniform(0, 0.7))
        api.account.change(100, seed=chance.randrange(10**6))
        for process in runs:
            _, errors = process.communicate(timeout=2_000)
            assert process.returncode == 0, errors
        api.account.clock.advance(timedelta(seconds=2))
        load(warehouse, api)
        assert warehouse.stored() == shown(api.account)
        assert_unique(warehouse)


@pytest.mark.promise("P7")
def test_a_failed_backfill_resumes_and_leaves_the_cursor(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__UNIFY__WINDOW_ROWS", "100")
    api = loaded(warehouse, serve)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 10, "workers": 1}
    reached = cursor(warehouse.pipeline())
    done = len(warehouse.loads())
    for row in api.account.rows():
        api.account.put({**row, "reply_email_message": None})  # Without moving `updated_at`.
    times = sorted(row["updated_at"] for row in api.account.rows())
    first, last = times[0], times[-1]
    failing = warehouse.pipeline()
    failing.collector = FailsAfterAWindow(api)
    with pytest.raises(UnifyError):
        backfill(failing, first, last, **given)
    assert len(warehouse.loads()) > done
    assert warehouse.stored() != shown(api.account)
    api.arm()
    api.reset()

    backfill(warehouse.pipeline(machine="two"), first, last, **given)

    asked_from = {v for r in api.requests for k, v in r.query if k == "updated_after"}
    assert min(asked_from) > first
    assert cursor(warehouse.pipeline()) == reached
    assert warehouse.stored() == shown(api.account)
