"""Takes out one safeguard at a time, in a copy of the code, and shows which test notices.

    python tests/safeguards.py [NAME ...]

Prints a line for each. Fails where the test passes without its safeguard: then it proves nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).resolve().parents[1]
FAILED, PATIENCE = 1, 300


class Safeguard(NamedTuple):
    """A line that keeps a promise, its file, what replaces it, and the test that must fail then."""

    promise: str
    file: str
    line: str
    instead: str
    test: str


SAFEGUARDS = {
    "The window is closed at the server's time": Safeguard(
        "P1",
        "extract/window.py",
        'return [*lower, ("updated_before", rfc3339(self.before))]',
        "return lower",
        "runs/test_server_clock.py::test_every_request_for_a_list_is_closed_at_the_servers_time",
    ),
    "No cursor passes the window": Safeguard(
        "P1",
        "load/extraction/extraction.py",
        "target.cursors.advance(min(newest, covered.before))",
        "target.cursors.advance(newest)",
        "runs/test_server_clock.py"
        "::test_no_cursor_passes_the_window_though_a_row_that_is_asked_for_by_id_is_newer",
    ),
    "A run reads back behind its cursor": Safeguard(
        "P1",
        "load/state/cursors.py",
        "behind = oldest - lookback if oldest else None",
        "behind = oldest",
        "runs/test_simulation.py::test_once_changes_stop_one_more_sync_makes_every_table_equal",
    ),
    "Slices that a changed row may have left are read again": Safeguard(
        "P1",
        "extract/portion.py",
        "suspects = [each for each in check.slices if each.may_have_skipped(recent)]",
        "suspects = []",
        "extract/test_moving_rows.py::test_no_row_is_lost_whatever_the_cursor_hides",
    ),
    "Of two versions in one load the newest stays": Safeguard(
        "P3",
        "load/schema/hints.py",
        'columns[table.newest]["dedup_sort"] = "desc"',
        'columns[table.newest]["dedup_sort"] = "asc"',
        "runs/test_promises.py::test_of_two_versions_the_newer_stays",
    ),
    "A row without children deletes those it had": Safeguard(
        "P4",
        "flatten/split.py",
        "return _with_childless(with_merge_columns(table, flat), table, older)",
        "return with_merge_columns(table, flat)",
        "runs/test_promises.py::test_replies_and_classifications_deleted_upstream_are_deleted_here",
    ),
    "Each table's merge is one transaction": Safeguard(
        "P5",
        "common/dlt_seam/destinations.py",
        'destination.caps_params["supports_transactions"] = True',
        'destination.caps_params["supports_transactions"] = False',
        "destinations/test_merges.py::test_an_insert_that_fails_leaves_every_row_where_it_was",
    ),
    "A window whose merge died is the next run's first work": Safeguard(
        "P5",
        "destinations/stored/unfinished.py",
        "self._left = {load: noted[load] for load in noted.keys() - done}",
        "self._left = {}",
        "destinations/test_unfinished.py"
        "::test_a_window_whose_merge_died_is_reloaded_first_by_any_next_run",
    ),
    "Runs on one dataset take turns": Safeguard(
        "P7",
        "destinations/locks/turns.py",
        "self._taken.enter_context(self.turn())",
        "self._locks = (Held(),)",
        "runs/test_promises.py::test_two_runs_at_once_lose_duplicate_and_revert_no_row",
    ),
    "A cursor that comes again is an error": Safeguard(
        "P8",
        "extract/pagination.py",
        'raise _endless("the same next_cursor twice", window)',
        "return",
        "extract/test_pagination.py::test_a_repeated_cursor_is_an_error_at_once",
    ),
    "A difference is one of content, not of updated_at": Safeguard(
        "verify",
        "runs/verification/sides/digests.py",
        "for name, (column, _) in columns.items():",
        'for name, (column, _) in (i for i in columns.items() if i[0] == "updated_at"):',
        "runs/verification/test_verify.py::test_every_kind_of_damage_is_found_with_its_exact_count",
    ),
}


def notices(guard: Safeguard) -> bool:
    """Tell whether the test fails where its safeguard is taken out, or does not end."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HOME / "unify_source", Path(folder, "unify_source"))
        file = Path(folder, "unify_source", guard.file)
        file.write_text(file.read_text().replace(guard.line, guard.instead))
        words = ["-m", "pytest", "-x", "-q", str(HOME / "tests" / guard.test)]
        try:
            ran = subprocess.run(
                [sys.executable, *words],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": folder},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return True
    return ran.returncode == FAILED


def main() -> int:
    """Return 0 if every test notices."""
    missed = 0
    for name in sys.argv[1:] or SAFEGUARDS:
        is_noticed = notices(SAFEGUARDS[name])
        missed += not is_noticed
        print(f"{'noticed' if is_noticed else 'NOT NOTICED'}: {name}", flush=True)  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
