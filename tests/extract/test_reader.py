"""Reading in parallel misses no row, asks for little more than it must, and stops at an error."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import chain, pairwise
from typing import Any

import pytest
from accounts import START, account, begun_with, growing, in_groups
from conftest import KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from turns import readers, wait_until

from unify_source.api.client import Client
from unify_source.common.errors import BrokenPage, KeyRefused, ServerFailed, UnifyError
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings
from unify_source.common.times import parse_instant
from unify_source.extract.cuts.slicing import slices
from unify_source.extract.reader import Reading
from unify_source.extract.samples.probe import first_instant
from unify_source.extract.window import Window
from unify_source.sandbox import Account, Clock, Fault, Request, Sandbox

ORDERS = ["updated", "updated_desc", "created", "id"]


def client(api: Sandbox, **options: Any) -> Client:
    return Client(checked_settings({"api_key": KEY, "base_url": api.url, **options}))


def reading(api: Sandbox, window: Window, **how: Any) -> Reading:
    how = {"page_size": 100, "workers": 8, **how}
    return Reading(client(api), ENROLLMENT_LIST, [window], (), **how)


def rows_of(read: Reading) -> Counter[str]:
    """Return how often each row was read."""
    bodies = chain.from_iterable(read)
    return Counter(row["id"] for body in bodies for row in json.loads(body)["enrollments"])


def bounds_of(asked: Request) -> tuple[tuple[str, str], ...]:
    return tuple(
        parameter
        for parameter in asked.query
        if parameter[0] in {"updated_after", "updated_before"}
    )


@cache
def instants(read: Account) -> dict[str, datetime]:
    times = {row["id"]: parse_instant(row["updated_at"]) for row in read.rows()}
    return {key: at for key, at in times.items() if at}


def ids_within(read: Account, window: Window) -> set[str]:
    return {
        key
        for key, at in instants(read).items()
        if (window.after is None or at >= window.after) and at <= window.before
    }


@settings(max_examples=10)
@given(
    order=st.sampled_from(ORDERS),
    crowded=st.sampled_from([0.0, 0.9]),
    one_instant=st.sampled_from([0, 400]),
    page_size=st.sampled_from([3, 7, 20, 100]),
    workers=st.integers(1, 8),
    ends=st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999)),
)
def test_every_row_of_a_window_is_read_at_least_once(
    order: str,
    crowded: float,
    one_instant: int,
    page_size: int,
    workers: int,
    ends: tuple[int, int] | None,
) -> None:
    read = account(600 if page_size == 3 else 1_500, crowded, one_instant)
    window = Window(None, START)
    if ends:
        known = sorted(instants(read).values())
        low, high = sorted(known[end * (len(known) - 1) // 999] for end in ends)
        window = Window(low, high)

    with Sandbox(read, key=KEY, order=order) as api:
        pages = reading(api, window, page_size=page_size, workers=workers)
        read_rows = rows_of(pages)

    assert set(read_rows) >= ids_within(read, window)
    assert pages.covered == window


@given(
    pages=st.lists(st.lists(st.integers(0, 10**9), max_size=20), min_size=1, max_size=12),
    further=st.integers(0, 60),
    idle=st.booleans(),
    order=st.sampled_from(["ascending", "descending", "none"]),
    is_open=st.booleans(),
    enough=st.none() | st.integers(1, 50),
    newest_first=st.booleans(),
)
def test_slices_share_their_boundaries_and_leave_nothing_out(
    pages: list[list[int]],
    further: int,
    idle: bool,  # noqa: FBT001 - drawn
    order: str,
    is_open: bool,  # noqa: FBT001 - drawn
    enough: int | None,
    newest_first: bool,  # noqa: FBT001 - drawn
) -> None:
    listed = sorted(chain.from_iterable(pages), reverse=order == "descending")
    if order == "none":
        listed = list(chain.from_iterable(pages))
    rows = iter(START - timedelta(days=1) + timedelta(microseconds=us) for us in listed)
    numbers = [*range(1, len(pages)), len(pages) + further]
    sample = {
        number: [next(rows) for _ in page] for number, page in zip(numbers, pages, strict=True)
    }
    window = Window(None if is_open else START - timedelta(days=30), START + timedelta(days=30))

    parts, rest = slices(window, sample, 32, idle=idle, enough=enough, newest_first=newest_first)

    # An instant may be finer on the server than a microsecond: no gap of one may be left.
    assert all(one.before == other.after for one, other in pairwise(parts))
    assert all(part.after is None or part.after < part.before for part in parts)
    assert not parts or Window(parts[0].after, parts[-1].before) == window
    assert rest is None or rest == parts[0 if newest_first else -1]


@pytest.mark.parametrize("is_ascending", [True, False])
def test_no_slice_begins_or_ends_at_an_instant_that_many_rows_share(is_ascending: bool) -> None:  # noqa: FBT001 - a parameter
    window = Window(START - timedelta(days=400), START)
    burst = START - timedelta(days=200)
    step = timedelta(hours=-1 if is_ascending else 1)
    page = [*(burst + step * left for left in range(50, 0, -1)), *[burst] * 50]

    parts, _ = slices(window, {1: page}, 32, idle=True)

    assert len(parts) > 1
    assert burst not in {part.before for part in parts}


@pytest.mark.parametrize("order", ["updated", "updated_desc"])
@pytest.mark.parametrize("crowded", [0.0, 0.9])
def test_reading_in_parallel_asks_for_little_more_than_every_page_once(
    crowded: float, order: str
) -> None:
    read = account(4_000, crowded)

    with Sandbox(read, key=KEY, order=order) as api:
        read_rows = rows_of(reading(api, Window(None, START), page_size=20, workers=16))
        requests = len(api.requests)

    assert set(read_rows) == set(read.ids())
    # How the sixteen workers take turns decides how often the rest is cut for one that is idle.
    assert requests <= 1.4 * len(read) / 20


@pytest.mark.long
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("page_size", "crowded"), [(10, 0.9), (5, 0.0)])
def test_no_single_worker_reads_most_of_the_account(
    page_size: int, crowded: float, order: str
) -> None:
    # Crowded, it begins with many rows of one instant, then few for a year, then all the others.
    read = account(2_500, crowded)

    with Sandbox(read, key=KEY, order=order) as api:
        rows_of(reading(api, Window(None, START), page_size=page_size))
        chains = Counter(bounds_of(asked) for asked in api.requests)

    assert max(chains.values()) < len(read) / page_size / 3


@pytest.mark.parametrize("order", ["updated", "updated_desc"])
@pytest.mark.parametrize("group", [3, 30, 200])
def test_the_work_is_shared_and_little_is_read_twice_if_groups_of_rows_share_an_instant(
    group: int, order: str
) -> None:
    read = in_groups(4_000, group)

    with Sandbox(read, key=KEY, order=order, latency=0.01) as api:
        read_rows = rows_of(reading(api, Window(None, START), page_size=20, workers=16))
        chains = Counter(bounds_of(asked) for asked in api.requests)

    assert set(read_rows) == set(read.ids())
    assert chains.total() <= 1.35 * len(read) / 20
    assert max(chains.values()) <= len(read) / 20 / 5


@pytest.mark.parametrize("order", ["updated", "updated_desc"])
@pytest.mark.parametrize("group", [1, 3, 12])
def test_the_work_is_shared_if_an_account_grows_ever_denser(group: int, order: str) -> None:
    read = growing(4_000, group)

    with Sandbox(read, key=KEY, order=order) as api:
        read_rows = rows_of(reading(api, Window(None, START), page_size=20, workers=16))
        chains = Counter(bounds_of(asked) for asked in api.requests)

    assert set(read_rows) == set(read.ids())
    assert chains.total() <= 1.35 * len(read) / 20
    assert max(chains.values()) <= len(read) / 20 / 3


def test_times_nested_in_rows_do_not_prevent_sharing_the_work() -> None:
    old = {"updated_at": "2001-01-01T00:00:00Z", "created_at": "2001-01-01T00:00:00Z"}
    read = Account(0, clock=Clock(START))
    rows = account(4_000).rows()
    read.put_many({**row, "person": {**row["person"], **old}} for row in rows)

    with Sandbox(read, key=KEY) as api:
        read_rows = rows_of(reading(api, Window(None, START), page_size=20, workers=16))
        chains = Counter(bounds_of(asked) for asked in api.requests)

    assert set(read_rows) == set(read.ids())
    assert max(chains.values()) <= len(read) / 20 / 5


def test_a_burst_that_comes_first_keeps_only_one_worker() -> None:
    with Sandbox(begun_with(1_500, 5_000), key=KEY) as api:
        read_rows = rows_of(reading(api, Window(None, START), workers=4, page_size=5))
        chains = Counter(bounds_of(asked) for asked in api.requests)

    assert len(read_rows) == 5_000
    assert max(chains.values()) <= 1_500 / 5 + 10


@pytest.mark.parametrize("order", ["created", "id"])
def test_a_list_in_another_order_is_not_cut_into_tiny_slices(order: str) -> None:
    read = account(4_000)

    with Sandbox(read, key=KEY, order=order) as api:
        read_rows = rows_of(reading(api, Window(None, START), page_size=20, workers=16))

        assert set(read_rows) == set(read.ids())
        assert len(api.requests) <= 2.1 * len(read) / 20


@pytest.mark.parametrize("order", ["created", "id"])
@pytest.mark.parametrize("workers", [2, 8])
def test_a_burst_in_a_list_in_another_order_is_not_cut_endlessly(order: str, workers: int) -> None:
    read = account(1_500, 0.0, 400)

    with Sandbox(read, key=KEY, order=order) as api:
        read_rows = rows_of(reading(api, Window(None, START), workers=workers, page_size=7))

        assert set(read_rows) == set(read.ids())
        assert len(api.requests) <= 2.5 * len(read) / 7


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@settings(max_examples=6)
@given(
    order=st.sampled_from(ORDERS),
    workers=st.integers(1, 8),
    enough=st.sampled_from([200, 1_000, 10_000]),
)
def test_the_covered_window_has_been_read_completely(
    order: str, workers: int, enough: int, *, newest_first: bool
) -> None:
    read = account(3_000)
    with Sandbox(read, key=KEY, order=order) as api:
        pages = reading(
            api,
            Window(None, START),
            page_size=20,
            workers=workers,
            enough=enough,
            newest_first=newest_first,
        )
        rows = rows_of(pages)
        pages.close()

    covered = pages.covered
    assert set(rows) >= ids_within(read, covered)
    assert covered.after is None or covered.after < covered.before
    assert (covered.before if newest_first else covered.after) == (START if newest_first else None)
    if enough > len(read):
        assert covered == Window(None, START)


@pytest.mark.long
@pytest.mark.parametrize("crowded", [0.0, 0.9], ids=["evenly", "crowded"])
@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("order", ["updated", "updated_desc"])
def test_no_window_is_the_whole_account_and_few_pages_are_read_twice(
    order: str, crowded: float, *, newest_first: bool
) -> None:
    read = account(5_000, crowded)
    whole = Window(min(instants(read).values()), START)
    end = whole.after if newest_first else whole.before
    reached: datetime | None = None
    all_ids: set[str] = set()
    windows: list[int] = []

    with Sandbox(read, key=KEY, order=order) as api:
        pages = reading(api, whole, page_size=10, workers=4, enough=250, newest_first=newest_first)
        while reached != end and len(windows) < len(read) / 25:
            begin = reached or (whole.before if newest_first else whole.after)
            ids = set(rows_of(pages))
            assert ids >= ids_within(read, pages.covered)
            assert begin == (pages.covered.before if newest_first else pages.covered.after)
            reached = pages.covered.after if newest_first else pages.covered.before
            all_ids |= ids
            windows.append(len(ids))
        requests = len(api.requests)

    assert all_ids == set(read.ids())
    assert requests <= 1.5 * len(read) / 10
    if not crowded and (order == "updated") != newest_first:
        assert max(windows) <= len(read) / 4


def test_most_of_the_next_portion_is_read_ahead_and_no_more() -> None:
    read = account(20_000)
    whole = Window(min(instants(read).values()), START)

    with Sandbox(read, key=KEY) as api:
        pages_ahead = reading(api, whole, page_size=20, workers=4, enough=2_000)
        pages = len(list(chain.from_iterable(pages_ahead)))
        wait_until(lambda: len(api.requests) > pages + 50)
        # One that reads on would ask for far more by now.
        time.sleep(0.3)
        ahead = len(api.requests) - pages
        following = len(list(chain.from_iterable(pages_ahead)))
        pages_ahead.close()

    assert ahead < 80
    assert following >= 100


def test_an_error_between_two_portions_is_raised_when_the_next_is_read() -> None:
    with Sandbox(account(20_000), key=KEY, latency=0.02) as api:
        pages_ahead = reading(api, Window(None, START), page_size=20, workers=4, enough=2_000)
        rows_of(pages_ahead)
        api.arm(Fault("401", times=1))
        wait_until(lambda: not readers())
        asked = len(api.requests)
        api.arm()

        with pytest.raises(KeyRefused):
            rows_of(pages_ahead)
        assert len(api.requests) == asked


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("401", after=40, times=1), KeyRefused),
        (Fault("500", after=40), ServerFailed),
        (Fault("repeat_cursor", after=20), BrokenPage),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_an_error_in_one_worker_ends_them_all_at_once(
    fault: Fault, error: type[UnifyError]
) -> None:
    with Sandbox(account(20_000), key=KEY, latency=0.02, faults=[fault]) as api:
        asking = client(api, retry_budget=0.3)
        pages_ahead = Reading(
            asking, ENROLLMENT_LIST, [Window(None, START)], (), page_size=20, workers=8
        )

        with pytest.raises(error):
            rows_of(pages_ahead)

        asked = len(api.requests)
        assert asked < 500
        wait_until(lambda: not readers())
        assert len(api.requests) <= asked + 8


def test_a_reader_that_stops_also_stops_the_workers() -> None:
    go_on = threading.Event()

    def first_hundred(_: object) -> None:
        assert len(api.requests) <= 100 or go_on.wait(60)

    with Sandbox(account(20_000), key=KEY, on_request=first_hundred) as api:
        batches = iter(reading(api, Window(None, START)))
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        go_on.set()
        wait_until(lambda: not readers())

        assert len(api.requests) <= 100 + 8


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_instant_lies_before_every_row_whatever_the_order(order: str) -> None:
    read = account(1_500)
    oldest = min(instants(read).values())

    with Sandbox(read, key=KEY, order=order) as api:
        first = first_instant(partial(client(api).page, ENROLLMENT_LIST), START)

        assert first
        assert timedelta() < oldest - first < (START - oldest) / 2
        assert len(api.requests) <= 7


def test_the_first_instant_of_a_list_that_begins_with_it_is_found_by_two_requests() -> None:
    with Sandbox(account(1_500), key=KEY) as api:
        first_instant(partial(client(api).page, ENROLLMENT_LIST), START)

        assert len(api.requests) == 2


def test_rows_with_an_unset_time_are_read_and_do_not_affect_the_slices() -> None:
    def unset(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "updated_at": "0001-01-01T00:00:00Z"}

    read = account(1_500)

    with Sandbox(read, key=KEY, reshape=unset) as api:
        assert set(rows_of(reading(api, Window(None, START)))) == set(read.ids())


def test_an_error_in_one_worker_keeps_the_others_from_trying_again() -> None:
    refused = [Fault("401", after=30, times=1), Fault("500", after=30)]
    with Sandbox(account(20_000), key=KEY, latency=0.02, faults=refused) as api:
        pages_ahead = Reading(
            client(api, retry_budget=60),
            ENROLLMENT_LIST,
            [Window(None, START)],
            (),
            page_size=20,
            workers=8,
        )

        with pytest.raises(KeyRefused):
            rows_of(pages_ahead)

        asked = len(api.requests)
        wait_until(lambda: not readers())
        assert len(api.requests) <= asked + 8
