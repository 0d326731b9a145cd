"""What a person sees on a terminal: progress at once, and in the end only the result."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import KEY
from rich.cells import cell_len
from terminal import Screen, cold, watched

from unify_source.sandbox import Account, Fault, Sandbox

Serve = Callable[..., Sandbox]
LOADED = r"700 enrollments loaded into duckdb, dataset unify \(.*\)\."
CURRENT = r"Data is current to \d{4}-\d\d-\d\dT.*\."
MANY_WINDOWS: dict[str, Any] = {
    "SOURCES__UNIFY__PAGE_SIZE": "20",
    "SOURCES__UNIFY__WINDOW_ROWS": "150",
}
A_RANGE = ["backfill", "--from", "2020-01-01"]


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Start a sandbox that takes its time."""
    sandbox = serve(Account(700), latency=0.05)
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return sandbox


def assert_left(screen: Screen, *expected: str) -> None:
    """Assert that only these lines remain, with a visible cursor below them."""
    assert len(screen.lines) == len(expected) + 1, screen.lines
    assert all(re.fullmatch(*pair) for pair in zip(expected, screen.lines, strict=False)), (
        screen.lines
    )
    assert screen.lines[-1] == ""
    assert screen.shows_cursor


def test_sync_leaves_its_result_and_nothing_of_what_it_showed_meanwhile(api: Sandbox) -> None:
    first = watched("sync", start=cold, **MANY_WINDOWS)
    again = watched("sync")

    assert_left(first, LOADED, CURRENT)
    assert_left(again, r"Nothing changed since the last run \(.*\)\.", CURRENT)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "0:00 Starting" in first.sent
    assert f"Connecting to {api.url}" in first.sent
    assert re.search(r"Reading pages, [\d,]+ rows read, [\d,]+ rows/s, 1 window done", first.sent)


@pytest.mark.usefixtures("api")
def test_backfill_shows_its_share_of_the_range() -> None:
    screen = watched(*A_RANGE, **MANY_WINDOWS)

    assert_left(screen, LOADED)
    shares = [int(share) for share in re.findall(r"(\d+)% of the range", screen.sent)]
    assert shares == sorted(shares)
    assert 0 == shares[0] < shares[-1] < 100


@pytest.mark.usefixtures("api")
def test_verify_shows_its_share_of_the_rows() -> None:
    assert watched("sync").returncode == 0

    screen = watched("verify", "--workers", "1", SOURCES__UNIFY__PAGE_SIZE="20")

    assert screen.returncode == 0
    shares = [int(share) for share in re.findall(r"(\d+)% of the rows", screen.sent)]
    assert shares == sorted(shares)
    assert 0 == shares[0] < 100 == shares[-1]


def test_the_demo_leaves_its_tables_whole() -> None:
    screen = watched("demo", "--enrollments", "200")

    assert screen.returncode == 0
    assert_left(screen, *([".*"] * (len(screen.lines) - 1)))
    assert screen.lines[0].startswith("Starting the sandbox")
    assert "0:00 Making the models and the report" in screen.sent
    assert not [line for line in screen.lines if "Reading" in line or "rows/s," in line]
    # Three tables, each as wide in every row.
    assert len({cell_len(line) for line in screen.lines if line.startswith("│")}) == 3


@pytest.mark.usefixtures("api")
def test_an_error_is_printed_on_its_own() -> None:
    screen = watched("sync", UNIFY_API_KEY="another")

    assert_left(screen, "Error: The API refused the key.*", ".+")
    assert screen.returncode == 2


def test_ctrl_c_leaves_one_error_and_a_cursor(serve: Serve) -> None:
    api = serve(Account(300), latency=2)

    screen = watched(
        "sync",
        until=lambda seen: "Reading pages" in seen.sent,
        SOURCES__UNIFY__BASE_URL=api.url,
        UNIFY_API_KEY=KEY,
    )

    warning = r"\^CCTRL-C received\..* Send CTRL-C again to force stop\."
    assert_left(screen, warning, r"Error: Stopped\.", r"Nothing is lost: run it again.*")
    assert screen.returncode == 1


@pytest.mark.usefixtures("api")
def test_quiet_shows_nothing_at_all() -> None:
    assert watched("sync", "--quiet").sent == ""


@pytest.mark.usefixtures("api")
def test_json_leaves_one_object() -> None:
    # In one line, or the screen would wrap it.
    assert_left(watched("sync", "--json", columns=2_000), r'\{"command": "sync".*\}')


def test_the_screen_names_a_silent_server_and_its_clock_runs_on(serve: Serve) -> None:
    api = serve(Account(10), latency=1.5)

    screen = watched("sync", SOURCES__UNIFY__BASE_URL=api.url, UNIFY_API_KEY=KEY)

    clock = [int(seconds) for seconds in re.findall(r"0:(\d\d) Reading pages", screen.sent)]
    assert clock == sorted(clock)
    assert len(set(clock)) >= 3
    assert screen.sent.index("Connecting to") < screen.sent.index("Reading pages")


@pytest.mark.usefixtures("api")
def test_a_narrow_terminal_gets_a_truncated_line() -> None:
    screen = watched("sync", columns=24)

    assert "0:00 Connecting to http\r" in screen.sent
    assert re.fullmatch(LOADED + CURRENT, "".join(screen.lines))


def test_log_records_are_on_lines_of_their_own(serve: Serve) -> None:
    api = serve(Account(700))
    api.arm(Fault("500", times=1))

    screen = watched("sync", SOURCES__UNIFY__BASE_URL=api.url, UNIFY_API_KEY=KEY)

    assert_left(screen, r".*500.* Trying again in [1-9]\d* s\.", LOADED, CURRENT)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    term: str,
) -> None:
    screen = watched("sync", TERM=term)

    assert "\x1b" not in screen.sent
    *meanwhile, loaded, current, _ = screen.lines
    assert re.fullmatch(LOADED + CURRENT, loaded + current)
    assert all(re.match(r"\d+:\d\d [A-Z]\w+", line) for line in meanwhile)


@pytest.mark.usefixtures("api")
def test_no_color_leaves_errors_without_any() -> None:
    red = watched("sync", UNIFY_API_KEY="another")
    plain = watched("sync", UNIFY_API_KEY="another", NO_COLOR="1")

    assert "\x1b[31m" in red.sent
    assert "\x1b[31m" not in plain.sent
