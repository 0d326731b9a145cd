"""The progress line."""

from __future__ import annotations

import io
import threading
import time
from datetime import timedelta

import pytest

from unify_source.cli.progress import Progress

DAYS = timedelta(days=1)


class Noted(io.StringIO):
    """Notes when the first line of the second run is written."""

    def __init__(self) -> None:
        super().__init__()
        self.is_written, self.at = threading.Event(), 0.0

    def write(self, text: str) -> int:
        if "Second" in text and not self.is_written.is_set():
            self.at = time.monotonic()
            self.is_written.set()
        return super().write(text)


class Clock:
    """Stands still until a test moves it."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def started(clock: Clock | None = None) -> Progress:
    progress = Progress(io.StringIO(), is_live=False, clock=clock or Clock())
    progress.begin("Connecting")
    progress.now("Reading pages")
    return progress


def test_a_run_of_unknown_length_shows_rows_speed_and_windows_alone() -> None:
    progress = started()
    progress.add(1200)
    progress.window_done(timedelta())

    assert progress.text() == "0:00 Reading pages, 1,200 rows read, 1,200 rows/s, 1 window done"
    progress.close()


def test_the_time_left_leaves_out_the_years_before_the_first_row() -> None:
    clock = Clock()
    progress = started(clock)
    progress.range_known(3650 * DAYS)
    progress.window_done(100 * DAYS)
    clock.seconds = 0.2
    progress.window_done(99 * DAYS)

    assert progress.text() == (
        "0:00 Reading pages, 2 windows done, 97% of the range, about 0:19 left"
    )
    progress.close()


def test_where_the_number_of_rows_is_known_their_share_and_the_time_left_are_shown() -> None:
    clock = Clock()
    progress = started(clock)
    progress.rows_expected(1000)
    assert progress.text() == "0:00 Reading pages, 0% of the rows"

    clock.seconds = 2
    progress.add(10)
    assert progress.text() == (
        "0:02 Reading pages, 10 rows read, 5 rows/s, 1% of the rows, about 3:18 left"
    )

    # More than there were when the run began.
    progress.add(1090)
    assert progress.text().endswith("550 rows/s, 100% of the rows")
    progress.close()


def test_the_clock_and_counts_start_at_zero_with_each_run() -> None:
    clock = Clock()
    progress = started(clock)
    progress.range_known(2 * DAYS)
    progress.rows_expected(9)
    progress.add(5)
    progress.window_done(1 * DAYS)
    clock.seconds = 70

    progress.begin("Connecting")

    assert progress.text() == "0:00 Connecting"
    progress.close()


def test_elsewhere_than_on_a_terminal_the_first_line_of_a_run_comes_after_some_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = 0.2
    monkeypatch.setattr("unify_source.cli.progress._PLAIN_SECONDS", every)
    stream = Noted()
    progress = Progress(stream, is_live=False)
    progress.begin("First")
    time.sleep(every / 2)

    before = time.monotonic()
    progress.begin("Second")

    assert stream.is_written.wait(60)
    progress.close()
    assert stream.at - before >= every
