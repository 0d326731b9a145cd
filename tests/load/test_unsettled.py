"""Windows that could not be read without a gap are kept until a run has read them again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from unify_source.extract.window import Window, begin
from unify_source.load.state.cursors import Cursors
from unify_source.load.state.unsettled import Unsettled

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
NOW = Window(START, START + timedelta(days=1))


def window(at: int, minutes: int) -> Window:
    begun = START + timedelta(minutes=at)
    return Window(begun, begun + timedelta(minutes=minutes))


windows = st.lists(st.builds(window, st.integers(-9_999, 9_999), st.integers(0, 50)), max_size=80)


def cursors(states: dict[str, Any], *tables: str, name: str = "updated_at") -> Cursors:
    return Cursors(name, tables or ("people",), lambda table: states.setdefault(table, {}))


@given(windows=windows)
def test_no_unsettled_window_is_forgotten_on_its_way_through_the_state(
    windows: list[Window],
) -> None:
    state = json.loads(json.dumps(Unsettled.of(windows).to_state()))

    kept = Unsettled.from_state(state).windows

    assert all(any(each.covers(window) for each in kept) for window in windows)
    assert len(kept) <= 50
    assert all(one.before < begin(other) for one, other in pairwise(kept))
    assert Unsettled.of(kept).windows == kept


def test_a_window_that_begins_with_the_first_row_stays_so() -> None:
    first = Window(None, START)

    kept = Unsettled.from_state(Unsettled.of([window(5, 1), first]).to_state())

    assert kept.windows == (first, window(5, 1))


def test_a_state_of_an_earlier_version_has_no_unsettled_window() -> None:
    assert cursors({"people": {"incremental": {}}}).unsettled_beside(NOW) == []
    assert cursors({}).unsettled_beside(NOW) == []


def test_windows_that_were_read_again_are_forgotten_and_others_stay() -> None:
    states: dict[str, Any] = {}
    old, older = window(-60, 1), window(-90, 1)
    cursors(states).settle([], [old, older])

    cursors(states).settle([window(-61, 5)], [])
    assert cursors(states).unsettled_beside(NOW) == [older]

    cursors(states).settle([older], [])
    # A key that stays would make every load write the state again.
    assert states == {"people": {}}


def test_a_window_that_a_run_reads_anyway_is_not_read_twice() -> None:
    states: dict[str, Any] = {}
    cursors(states).settle([], [window(10, 5), window(-10, 5)])

    assert cursors(states).unsettled_beside(NOW) == [window(-10, 5)]
    assert cursors(states).unsettled_beside(Window(None, NOW.before)) == []


def test_the_next_full_run_reads_what_a_run_that_is_never_repeated_left() -> None:
    states: dict[str, Any] = {}
    cursors(states, "people", name="filtered").settle([], [window(-20, 1)], is_once=True)

    assert cursors(states, "people", name="filtered").unsettled_beside(NOW) == []
    assert cursors(states, "people").unsettled_beside(NOW) == [window(-20, 1)]


def test_a_run_over_the_past_keeps_later_windows() -> None:
    states: dict[str, Any] = {}
    cursors(states).settle([], [window(-10, 1), window(-30, 1)])

    assert cursors(states).unsettled_beside(window(-20, 1)) == [window(-30, 1)]


def test_a_filtered_run_keeps_its_own_and_a_table_that_was_left_out_its_too() -> None:
    states: dict[str, Any] = {}
    of_people, filtered, common = window(-10, 1), window(-20, 1), window(-30, 1)
    cursors(states, "people", "plays").settle([], [common])
    cursors(states, "people").settle([], [of_people])
    cursors(states, "people", name="filtered").settle([], [filtered])

    assert cursors(states, "plays").unsettled_beside(NOW) == [common]
    assert cursors(states, "people", "plays").unsettled_beside(NOW) == [common, of_people]
    assert cursors(states, "people", name="filtered").unsettled_beside(NOW) == [filtered]
