"""However long rows are, pages and portions stay small, and no row is missed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from email.utils import format_datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pytest
from accounts import START
from conftest import KEY
from destinations import DESTINATIONS, Destination, opened
from packaging.version import Version
from raw_server import Asked, raw_server, response

from unify_source import sync, verify
from unify_source.api import by_id
from unify_source.api.client import Client
from unify_source.common.errors import UnifyError
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.extract import page_queue, reader, workers
from unify_source.extract.reader import Reading
from unify_source.extract.window import Window
from unify_source.runs.analysis.views import make_models
from unify_source.runs.verification import comparison
from unify_source.runs.windows import footprint
from unify_source.sandbox import Account, Clock, Sandbox

LONG = "x" * 40_000
WIDE, NARROW = 400, 2_000
BUDGET, PAGE = 1 << 20, 1 << 17
WHOLE = Window(None, START)
GONE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    # A few rows show with these what thousands would with the real ones.
    monkeypatch.setattr(reader, "MOST_WIDE_BYTES", BUDGET)
    monkeypatch.setattr(page_queue, "BATCH_BYTES", BUDGET // 3)
    monkeypatch.setattr(page_queue, "MOST_BYTES", 4 * BUDGET // 3)
    monkeypatch.setattr(page_queue, "AHEAD_BYTES", 4 * BUDGET)
    monkeypatch.setattr(workers, "PAGE_BYTES", PAGE)
    monkeypatch.setattr(workers, "MOST_PAGE_BYTES", 4 * PAGE)


@pytest.fixture
def file(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    with opened(DESTINATIONS[0], home, request) as found:
        yield found


def wide_account(wide: int, narrow: int = 0) -> Account:
    """Return an account whose oldest rows are wide."""
    account = Account(wide + narrow, clock=Clock(START))
    oldest = sorted(account.rows(), key=lambda row: str(row["updated_at"]))[:wide]
    account.put_many({**row, "notes": LONG} for row in oldest)
    return account


def read_from(url: str, limits: dict[str, Any] | None = None, **how: Any) -> Reading:
    settings = checked_settings({"api_key": KEY, "base_url": url, **(limits or {})})
    how = {"page_size": 100, "workers": 4, "enough": 200_000, **how}
    return Reading(Client(settings), ENROLLMENT_LIST, [WHOLE], (), **how)


def portions(reading: Reading, *, newest_first: bool = False) -> Iterator[list[bytes]]:
    """Yield the pages of each portion, and check that each begins where the last one ended."""
    reached: Any = START if newest_first else None
    with closing(reading):
        while reached != (None if newest_first else START):
            pages = list(chain.from_iterable(reading))
            covered = reading.covered
            assert reached == (covered.before if newest_first else covered.after)
            reached = covered.after if newest_first else covered.before
            yield pages


def ids_of(pages: list[bytes]) -> set[str]:
    return {row["id"] for page in pages for row in json.loads(page)["enrollments"]}


@pytest.mark.long
@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("order", ["updated", "updated_desc", "created"])
def test_a_portion_of_wide_rows_ends_by_their_bytes_and_none_is_missed(
    order: str, *, newest_first: bool
) -> None:
    account = wide_account(WIDE)
    with Sandbox(account, key=KEY, order=order) as api:
        reading = read_from(api.url, newest_first=newest_first)
        parts = list(portions(reading, newest_first=newest_first))

    assert set().union(*map(ids_of, parts)) == set(account.ids())
    # A portion ends with what was begun, and the first also has what was read before it was cut.
    assert max(sum(map(len, pages)) for pages in parts) < 8 * BUDGET
    assert max(len(page) for pages in parts for page in pages) < 8 * PAGE


def test_after_the_wide_rows_portions_and_pages_have_their_usual_size() -> None:
    account = wide_account(WIDE // 4, NARROW)
    with Sandbox(account, key=KEY, order="updated") as api:
        sizes = [len(ids_of(pages)) for pages in portions(read_from(api.url))]

    assert sum(sizes) >= WIDE // 4 + NARROW
    assert max(sizes) > NARROW // 2
    assert len(sizes) < 12


def test_a_server_that_ignores_limit_and_bounds_is_read_to_its_end() -> None:
    rows = [{"id": f"e{n}", "updated_at": "2026-05-01T00:00:00Z", "n": LONG} for n in range(120)]
    date = format_datetime(START, usegmt=True)

    def answer(request: Asked, to: socket.socket) -> None:
        begin = int(request.query.get("cursor", "0"))
        following = str(begin + 40) if begin + 40 < len(rows) else None
        page = {"enrollments": rows[begin : begin + 40], "next_cursor": following}
        to.sendall(response(page, Date=date))

    with raw_server(answer) as server:
        [pages] = portions(read_from(server.url))

    assert len(ids_of(pages)) == len(rows)


@pytest.mark.parametrize("narrow", [0, 300], ids=["all wide", "the oldest wide"])
@pytest.mark.parametrize("lookback", [timedelta(), timedelta(days=3_000)], ids=["still", "changed"])
def test_fewer_rows_are_requested_where_a_page_would_be_too_large(
    lookback: timedelta, narrow: int
) -> None:
    # What may have changed is listed in pages too, and may be read again.
    account = wide_account(60, narrow)
    with Sandbox(account, key=KEY) as api:
        reading = read_from(api.url, {"max_body_bytes": 1 << 20}, lookback=lookback)
        parts = list(portions(reading))

    assert set().union(*map(ids_of, parts)) == set(account.ids())


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("order", ["updated", "created"])
def test_a_few_long_rows_do_not_shrink_other_pages(order: str, count: int) -> None:
    account = Account(NARROW, clock=Clock(START))
    requests = []
    for long in ("", LONG * 20):
        first = sorted(account.rows(), key=lambda row: str(row[f"{order}_at"]))[:count]
        account.put_many({**row, "notes": long} for row in first)
        with Sandbox(account, key=KEY, order=order) as api:
            list(portions(read_from(api.url)))
            requests.append(len(api.requests))

    usual, with_long = requests
    # Each page of the first few has one, and the portion that has them begins again.
    assert with_long < 4 * usual


def test_long_rows_requested_by_id_come_in_pages_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_id, "AT_ONCE", 4)
    monkeypatch.setattr(by_id, "PAGE_BYTES", PAGE)
    account = wide_account(30)
    with Sandbox(account, key=KEY) as api:
        client = Client(checked_settings({"api_key": KEY, "base_url": api.url}))
        ids = [*account.ids(), GONE]
        read = list(by_id.rows_by_id(client, ENROLLMENT_LIST, ids, workers=4, otherwise=""))

    pages = [page for page, _ in read]
    assert ids_of(pages) == set(account.ids())
    assert list(chain.from_iterable(gone for _, gone in read)) == [GONE]
    assert max(map(len, pages)) < 4 * PAGE


def placed(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a long text in one of the places where it can be."""
    reply = {"id": f"r{number}", "subject": LONG, "received_at": row["updated_at"]}
    reply["classifications"] = [{"id": f"c{number}", "category": LONG}]
    places: list[dict[str, Any]] = [
        {"notes": LONG},
        {"person": {**row["person"], "first_name": LONG}},
        {"person": {**row["person"], "biography": LONG}},
        {"sequence": {**row["sequence"], "name": LONG}},
        {"reply_email_message": reply},
        {"list": [{"of": LONG}]},
        {"is_paused": LONG},
    ]
    return {**row, **places[number % len(places)]}


def test_long_texts_anywhere_are_split_into_several_loads_and_all_arrive(
    file: Destination,
) -> None:
    account = Account(70, clock=Clock(START))
    account.put_many(placed(number, row) for number, row in enumerate(account.rows()))
    with Sandbox(account, key=KEY) as api:
        report = sync(file.pipeline(), api_key=KEY, base_url=api.url)

    broken = len(file.reads("enrollments_quarantine", ["id"]))
    assert (report.quarantined, broken) == (10, 10)
    assert len(file.reads("enrollments", ["id"])) == 60
    assert len(file.reads("_dlt_loads", ["load_id"])) > 1
    for table, column in (
        ("enrollments", "notes"),
        ("enrollments", "list"),
        ("people", "first_name"),
        ("people", "biography"),
        ("reply_email_messages", "subject"),
        ("reply_classifications", "category"),
    ):
        long = [text for (text,) in file.reads(table, [column]) if LONG in str(text)]
        assert (table, column, bool(long)) == (table, column, True)


@pytest.mark.long
@pytest.mark.skipif(
    Version(duckdb.__version__) < Version("1.4"), reason="it stores adjoining loads together"
)
def test_duckdb_never_holds_the_long_rows_of_many_loads_at_once(
    monkeypatch: pytest.MonkeyPatch, file: Destination
) -> None:
    monkeypatch.setattr(footprint, "MOST_WIDE_BYTES", BUDGET)
    account = wide_account(60)
    with Sandbox(account, key=KEY, order="updated") as api:
        report = sync(file.pipeline(), api_key=KEY, base_url=api.url)
        account.put({**account.rows()[0], "notes": "short"})
        # What it writes when it ends is a chance to merge, too, though it loads nothing wide.
        sync(file.pipeline(), api_key=KEY, base_url=api.url)
    # They create a table, and comment on it.
    make_models(file.pipeline())

    # Some were read again after the first load, which ended early.
    assert report.rows_by_table["enrollments"] == report.enrollments == 60
    with file.pipeline().sql_client() as client:
        groups = client.execute_sql(
            "SELECT row_group_id, max(count) FROM pragma_storage_info(%s)"
            " WHERE column_name = 'notes' GROUP BY ALL",
            f"{client.dataset_name}.enrollments",
        )
    rows = [rows for _, rows in groups or []]
    assert sum(rows) >= 60
    # The first load ends with what was begun when its rows turned out to be long.
    assert max(rows) < 50


@pytest.mark.long
def test_verify_says_how_to_give_duckdb_the_memory_that_long_rows_take(
    file: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(8, clock=Clock(START))
    account.put_many({**row, "notes": "x" * 500_000} for row in account.rows())
    with Sandbox(account, key=KEY) as api:
        sync(file.pipeline(), api_key=KEY, base_url=api.url)
        monkeypatch.setattr(comparison, "_WHILE_STREAMING", "3MB")

        with pytest.raises(UnifyError, match="tables could not be read") as error:
            verify(file.pipeline(), api_key=KEY, base_url=api.url)
    assert "memory_limit" in error.value.next_step
