"""A fault, wherever it strikes, ends equal, or in a sentence and equal after the next run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from destinations import Destination, DuckDB
from faults import BEHIND, DAMAGES, FAULTS, PLACES, TEN_MINUTES, between
from matrix import note
from standing import START, account, load
from tenacity import wait_random
from warehouse import shown
from ways import SAMPLE

from unify_source.api import client
from unify_source.common.errors import UnifyError
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

IMPATIENT = {"page_size": 20, "request_timeout": 1, "retry_budget": 6, "workers": 4}
# Pages so small that every fault gets its turn, and the patience of a slow machine.
SMALL_PAGES = {**IMPATIENT, "page_size": 2, "retry_budget": 60}
EQUAL, THIRD = "equal", "every third"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
ENDS: dict[str, str] = dict(
    re.findall(r"(?m)^\| (.+?) \|(?: [^|]+ \|){2} (\w[^|]+?)(?:, then equal)? \|", PAGE.read_text())
)
"""How a run ends that meets a fault in every third response, as the page says."""
CLOCKS = [fault for fault in DAMAGES if fault.startswith("clock")]
SURVIVED = [fault for fault in DAMAGES if ENDS.get(fault) == EQUAL and fault not in CLOCKS]
FATAL = [fault for fault in DAMAGES if fault not in (*SURVIVED, *CLOCKS)]


@pytest.fixture
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run ask again at once: how long it waits is tried with the client."""
    monkeypatch.setattr(client, "_BACKOFF", wait_random(0, 0.1))


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize("faults", [SURVIVED, *([fault] for fault in (*CLOCKS, *SAMPLE))])
def test_a_fault_in_every_third_response_loses_nothing(
    faults: list[str], serve: Serve, warehouse_file: DuckDB
) -> None:
    api = serve(account(160))

    assert end_of_run(faults, THIRD, api, warehouse_file, SMALL_PAGES) == ENDS[faults[0]]

    assert_next_run_ends_equal(warehouse_file, api)


@pytest.mark.usefixtures("without_waiting")
def test_runs_that_a_fault_ends_lose_nothing(serve: Serve, warehouse_file: DuckDB) -> None:
    api = serve(account(160))

    how = {**IMPATIENT, "retry_budget": 2}
    ends = {fault: end_of_run([fault], THIRD, api, warehouse_file, how) for fault in FATAL}

    assert ends == {fault: ENDS[fault] for fault in FATAL}
    assert_next_run_ends_equal(warehouse_file, api)


@pytest.mark.matrix
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_any_place_loses_nothing_on_any_destination(
    fault: str, place: str, serve: Serve, warehouse: Destination, request: pytest.FixtureRequest
) -> None:
    cell, api = (fault, place, warehouse.name), serve(account(160))
    note(request.node, *cell)

    ended = end_of_run([fault], place, api, warehouse)
    assert "without a next step" not in ended
    if ended != EQUAL:
        assert_next_run_ends_equal(warehouse, api)
        ended += ", then equal"

    note(request.node, *cell, outcome=ended)


def end_of_run(
    faults: list[str],
    place: str,
    api: Sandbox,
    warehouse: Destination,
    how: dict[str, int] = IMPATIENT,
) -> str:
    """Run through faults, and return how it ended, which may not be with other rows in silence."""
    with between(api, faults, place) as url:
        try:
            load(warehouse, url, **how)
        except UnifyError as error:
            # The sentence for unknown errors.
            step = ", without a next step" if "fix the cause" in error.next_step else ""
            return f"exit {error.exit_code}{step}"
    if warehouse.stored() == shown(api.account):
        return EQUAL
    assert faults == [BEHIND], f"rows are lost in silence by {faults}"
    assert warehouse.stored() == shown_until_the_clock(api.account)
    return "up to the clock"


def assert_next_run_ends_equal(warehouse: Destination, api: Sandbox) -> None:
    load(warehouse, api, page_size=20, workers=4)
    assert warehouse.stored() == shown(api.account), "rows are lost"


def shown_until_the_clock(made: Account) -> dict[str, list[tuple[object, ...]]]:
    """Return what the tables should hold where the server's clock is behind its rows."""
    clock = (START - TEN_MINUTES).isoformat()[:19]
    return shown([row for row in made.rows() if row["updated_at"][:19] < clock], made.sequences())
