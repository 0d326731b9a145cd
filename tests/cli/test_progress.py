"""The line that is shown while work lasts."""

from __future__ import annotations

import io
import re
import time
from datetime import timedelta

from unify_source.cli.progress import Progress

DAYS = timedelta(days=1)


def started() -> Progress:
    progress = Progress(io.StringIO(), is_live=False)
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
    progress = started()
    progress.range_known(3650 * DAYS)
    progress.window_done(100 * DAYS)
    time.sleep(0.2)
    progress.window_done(99 * DAYS)

    found = re.fullmatch(
        r"0:00 Reading pages, 2 windows done, 97% of the range, about 0:(\d\d) left",
        progress.text(),
    )
    assert found
    assert 19 <= int(found[1]) <= 30
    progress.close()


def test_the_clock_and_counts_start_anew_with_each_run() -> None:
    progress = started()
    progress.range_known(2 * DAYS)
    progress.add(5)
    progress.window_done(1 * DAYS)

    progress.begin("Connecting")

    assert progress.text() == "0:00 Connecting"
    progress.close()
