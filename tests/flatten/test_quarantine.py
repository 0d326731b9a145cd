"""Rows that break the API's promises are quarantined whole, reported, and released once fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import dlt
import duckdb
import pytest
from commands import command, only_json
from conftest import KEY
from warehouse import shown, stored

from unify_source.api import by_id
from unify_source.common.errors import UnifyError
from unify_source.load.extraction import extraction
from unify_source.load.packages import cursor
from unify_source.load.state import ask_again
from unify_source.runs.backfill import backfill
from unify_source.runs.sync import sync
from unify_source.sandbox import DRIFTS, Account, Clock, Fault, Sandbox

Serve = Callable[..., Sandbox]
Row = dict[str, Any]

START = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
FILE = "unify_gtm.duckdb"
DRIFT = DRIFTS["changed-types"]
FEW = 60


def account(size: int) -> Account:
    return Account(size, clock=Clock(START))


def quarantine() -> dict[str, tuple[str, Row]]:
    """Return the rows in quarantine: key -> reason and the row as it was sent."""
    with duckdb.connect(FILE, read_only=True) as connection:
        stored = connection.execute(
            "SELECT id, reason, raw, seen_at FROM unify.enrollments_quarantine"
        ).fetchall()
    assert all(reason and seen_at for _, reason, _, seen_at in stored)
    rows = {key: (reason, json.loads(raw)) for key, reason, raw, _ in stored}
    assert len(rows) == len(stored)
    return rows


def parted(rows: list[Row]) -> tuple[list[Row], dict[str, Row]]:
    """Return the rows that the drift leaves alone, and what it makes of the others, by id."""
    good = [row for row in rows if DRIFT(row) == row]
    return good, {row["id"]: DRIFT(row) for row in rows if DRIFT(row) != row}


def is_nobodys(row: Row | None) -> bool:
    """Tell whether a row lacks its person, which its table can hold."""
    return row is not None and row["person"] is None


REASONS: dict[str, Callable[[Row], bool]] = {
    "is_paused is text, not true or false": lambda row: row["is_paused"] == "true",
    "updated_at is missing": lambda row: "updated_at" not in row,
    "id is missing": lambda row: row["id"] is None,
    "mailbox is text, not an object": lambda row: isinstance(row["mailbox"], str),
    "created_at is a number, not text": lambda row: isinstance(row["created_at"], int),
    "status is a number, not text": lambda row: row["status"] == 3,
    "updated_at is 'yesterday', not an RFC 3339 time": lambda row: (
        row.get("updated_at") == "yesterday"
    ),
}


def test_good_rows_are_loaded_and_bad_ones_quarantined_whole_with_their_reasons(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(account(3_000), reshape=DRIFT)
    good, bad = parted(api.account.rows())
    nobodys = [row for row in bad.values() if is_nobodys(row)]
    unreadable = [row for row in bad.values() if not is_nobodys(row)]

    report = sync(pipeline, api_key=KEY, base_url=api.url)

    assert stored(FILE)["enrollments"] == shown([*good, *nobodys])["enrollments"]
    kept = quarantine()
    assert report.quarantined == len(kept) == len(unreadable) > 10
    by_content = {json.dumps(row, sort_keys=True) for _, row in kept.values()}
    assert by_content == {json.dumps(row, sort_keys=True) for row in unreadable}
    for key, (reason, row) in kept.items():
        assert REASONS[reason](row)
        assert row["id"] == key if row["id"] else len(key) == len(sha256().hexdigest())
    assert {reason for reason, _ in kept.values()} == set(REASONS)


def test_quarantine_ends_with_3_unless_it_is_accepted_and_is_written_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account(500), reshape=DRIFT)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", api.url)
    first = command("sync")
    held, tables = quarantine(), stored(FILE)

    assert first.returncode == 3
    assert f"{len(held)} rows are in enrollments_quarantine" in first.stdout

    second = command("sync", "--json")
    assert second.returncode == 3
    assert only_json(second)["quarantined"] == len(held)
    assert only_json(second)["enrollments"] == 0
    assert (quarantine(), stored(FILE)) == (held, tables)

    assert command("sync", "--accept-quarantine").returncode == 0
    status = command("status", "--json")
    assert only_json(status)["quarantined"] == len(held)


def test_once_the_api_is_fixed_rows_with_an_id_leave_the_quarantine_even_if_old(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    living = account(1_000)
    _, bad = parted(living.rows())
    sync(pipeline, api_key=KEY, base_url=serve(living, reshape=DRIFT).url)
    held = [row for _, row in quarantine().values()]
    without_id = [row for row in held if row["id"] is None]
    reached = cursor(pipeline)
    assert reached
    assert 0 < len(without_id) < len(held)

    living.clock.advance(timedelta(days=1))
    report = sync(pipeline, api_key=KEY, base_url=serve(living).url)

    assert [row for _, row in quarantine().values()] == without_id
    assert report.quarantined == len(without_id)
    assert report.enrollments == len(held) - len(without_id)
    # Nothing tells that a row was loaded without its person, nor an id of one that came without.
    rows = [
        bad[row["id"]] if is_nobodys(bad.get(row["id"])) else row
        for row in living.rows()
        if row["id"] not in bad or bad[row["id"]]["id"]
    ]
    assert stored(FILE)["enrollments"] == shown(rows)["enrollments"]


ODD: dict[str, Callable[[Row], Row | None]] = {
    "null": lambda _: None,
    "without an id": lambda row: {"updated_at": row["updated_at"]},
    "with a number as its id": lambda row: {**row, "id": 7},
    "without an id and a time": lambda _: {"x": 1},
}
RARER = dict.fromkeys(("null", "with a number as its id"), pytest.mark.long)
odd_rows = pytest.mark.parametrize(
    "odd", [pytest.param(odd, id=name, marks=RARER.get(name, ())) for name, odd in ODD.items()]
)


def listing_odd(serve: Serve, living: Account, odd: Callable[[Row], Row | None]) -> str:
    """Serve an account whose list has something odd in place of its oldest row."""
    oldest = min(living.rows(), key=lambda row: row["updated_at"])["id"]
    return serve(living, reshape=lambda row: odd(row) if row["id"] == oldest else row).url


@odd_rows
def test_a_row_without_an_id_leaves_the_quarantine_once_its_range_is_loaded_without_it(
    serve: Serve, pipeline: dlt.Pipeline, odd: Callable[[Row], Row | None]
) -> None:
    living = account(20)
    broken = listing_odd(serve, living, odd)
    assert sync(pipeline, api_key=KEY, base_url=broken).quarantined == 1
    assert sync(pipeline, api_key=KEY, base_url=broken).quarantined == 1
    assert backfill(pipeline, "2000-01-01", api_key=KEY, base_url=broken).quarantined == 1

    living.clock.advance(timedelta(days=1))
    report = backfill(pipeline, "2000-01-01", api_key=KEY, base_url=serve(living).url)

    assert report.quarantined == 0
    assert quarantine() == {}
    assert sync(pipeline, api_key=KEY, base_url=serve(living).url).quarantined == 0
    assert stored(FILE) == shown(living)


@odd_rows
def test_a_row_without_an_id_stays_in_quarantine_while_no_run_reads_its_range(
    serve: Serve, pipeline: dlt.Pipeline, odd: Callable[[Row], Row | None]
) -> None:
    living = account(20)
    broken = listing_odd(serve, living, odd)
    sync(pipeline, api_key=KEY, base_url=broken)
    living.clock.advance(timedelta(days=1))
    mended = serve(living).url

    for status in ("FINISHED", None):
        assert sync(pipeline, api_key=KEY, base_url=mended, status=status).quarantined == 1
    assert backfill(pipeline, "2026-05-30", api_key=KEY, base_url=mended).quarantined == 1


@pytest.mark.long
def test_long_rows_leave_the_quarantine_in_as_many_runs_as_the_memory_of_a_load_takes(
    serve: Serve, pipeline: dlt.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = account(61)
    *_, newest = sorted(living.rows(), key=lambda row: str(row["updated_at"]))

    def served(*, is_mended: bool) -> Sandbox:
        def sent(row: Row) -> Row:
            is_broken = not is_mended and row["id"] != newest["id"]
            return {**row, "note": "n" * 10_000, **({"is_paused": "no"} if is_broken else {})}

        return serve(living, reshape=sent)

    monkeypatch.setattr(by_id, "AT_ONCE", 10)
    monkeypatch.setattr(by_id, "PAGE_BYTES", 100_000)
    monkeypatch.setattr(extraction, "MOST_WIDE_BYTES", 150_000)
    sync(pipeline, api_key=KEY, base_url=served(is_mended=False).url)
    assert len(quarantine()) == 60

    # Beyond the lookback, so that no list shows them.
    living.clock.advance(timedelta(days=1))
    api = served(is_mended=True)
    left = [sync(pipeline, api_key=KEY, base_url=api.url).quarantined for _ in range(3)]

    assert left == [40, 20, 0]
    assert stored(FILE)["enrollments"] == shown(living.rows())["enrollments"]


def test_a_row_in_quarantine_that_is_gone_from_the_api_leaves_as_well(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    api = serve(account(500), reshape=DRIFT)
    sync(pipeline, api_key=KEY, base_url=api.url)
    gone = next(key for key, (_, row) in quarantine().items() if row["id"])

    api.account.remove(gone)
    sync(pipeline, api_key=KEY, base_url=api.url)

    assert gone not in quarantine()


def test_a_row_that_breaks_later_keeps_its_last_good_version_and_is_reported(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    living = account(50)
    sync(pipeline, api_key=KEY, base_url=serve(living).url)
    row = living.rows()[10]
    living.clock.advance(timedelta(seconds=5))
    moved = {**row, "updated_at": living.clock.now().isoformat(), "status": "DRAFT"}
    living.put({**moved, "is_paused": "no"})
    before = stored(FILE)

    sync(pipeline, api_key=KEY, base_url=serve(living).url)
    assert stored(FILE) == before
    assert quarantine()[row["id"]][0] == "is_paused is text, not true or false"

    living.put(moved)
    sync(pipeline, api_key=KEY, base_url=serve(living).url)
    assert quarantine() == {}
    assert stored(FILE) == shown(living)


def half_unreadable(row: Row) -> Row:
    return {**row, "is_paused": "paused"} if int(row["id"][:2], 16) % 2 else row


@pytest.fixture
def few_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a hundred rows exceed the number that is requested by id."""
    monkeypatch.setattr(ask_again, "ASK_AGAIN_LIMIT", FEW)


@pytest.mark.long
@pytest.mark.usefixtures("few_by_id")
def test_a_run_ends_even_if_it_cannot_request_all_unreadable_rows_by_id(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    rows = 300
    api = serve(account(rows), reshape=half_unreadable)
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, "page_size": 10}
    given["window_rows"] = 150

    for workers in (1, 3):
        api.reset()
        report = sync(pipeline, workers=workers, **given)

        assert report.quarantined == sum(half_unreadable(row) != row for row in api.account.rows())
        assert len(api.requests) <= FEW + 2.5 * rows / 10 + 20

    api.reset()
    backfill(pipeline, "2026-01-01", "2026-03-01", workers=3, **given)

    assert len(api.requests) <= 60
    asked_from = {v for asked in api.requests for k, v in asked.query if k == "updated_after"}
    assert min(asked_from) >= "2026-01-01"


@pytest.mark.usefixtures("few_by_id")
@pytest.mark.parametrize("first", ["windows", "failure", "backfill, filter", "changes"])
def test_once_the_api_is_fixed_all_rows_leave_the_quarantine_whatever_ran_first(
    serve: Serve, pipeline: dlt.Pipeline, first: str
) -> None:
    living = account(300)
    api = serve(living, reshape=half_unreadable)
    sync(pipeline, api_key=KEY, base_url=api.url)
    living.clock.advance(timedelta(days=1))
    if first == "changes":
        for seed in range(20):
            living.clock.advance(timedelta(hours=1))
            living.change(20, seed=seed)
    mended = serve(living)
    given: dict[str, Any] = {"api_key": KEY, "base_url": mended.url, "page_size": 10, "workers": 2}
    if first == "failure":
        mended.arm(Fault("400", after=FEW + 3))
        with pytest.raises(UnifyError):
            sync(pipeline, window_rows=150, **given)
        mended.arm()
    elif first == "backfill, filter":
        backfill(pipeline, "2026-01-01", "2026-01-02", **given)
        sync(pipeline, status="DRAFT", **given)

    report = sync(pipeline, window_rows=150, **given)

    assert report.quarantined == 0
    assert quarantine() == {}
    assert stored(FILE) == shown(living)
