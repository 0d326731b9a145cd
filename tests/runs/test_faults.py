"""A fault, wherever it strikes, ends equal, or in a sentence and equal after the next run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from destinations import Destination, DuckDB, opened
from faults import BEHIND, DAMAGES, FAULTS, PLACES, TEN_MINUTES, between
from matrix import note
from standing import START, account, load
from tenacity import wait_random
from warehouse import shown
from ways import SAMPLE

from unify_source.api import client
from unify_source.errors import UnifyError
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

IMPATIENT = {"page_size": 20, "request_timeout": 1, "retry_budget": 6, "workers": 4}
VERY_IMPATIENT = {**IMPATIENT, "retry_budget": 2}


@pytest.mark.parametrize("fault", [*DAMAGES, *SAMPLE])
def test_a_fault_in_every_third_response_loses_nothing(
    fault: str,
    serve: Serve,
    home: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How long a run waits before it asks again is tried with the client.
    monkeypatch.setattr(client, "_BACKOFF", wait_random(0, 0.1))
    with opened(DuckDB, home, request) as warehouse:
        end_of_run(fault, "every third", serve(account(160)), warehouse, VERY_IMPATIENT)


@pytest.mark.matrix
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_any_place_loses_nothing_on_any_destination(
    fault: str, place: str, serve: Serve, warehouse: Destination, request: pytest.FixtureRequest
) -> None:
    cell = (fault, place, warehouse.name)
    note(request.node, *cell)

    ended = end_of_run(fault, place, serve(account(160)), warehouse)

    note(request.node, *cell, outcome=ended)


def end_of_run(
    fault: str, place: str, api: Sandbox, warehouse: Destination, how: dict[str, int] = IMPATIENT
) -> str:
    """Run through a fault, and again unless all is equal; return how the first run ended."""
    with between(api, fault, place) as url:
        try:
            load(warehouse, url, **how)
        except UnifyError as error:
            ended, next_step = f"exit {error.exit_code}, then equal", error.next_step
        else:
            if warehouse.stored() == shown(api.account):
                return "equal"
            assert fault == BEHIND, "rows are lost in silence"
            assert warehouse.stored() == shown_until_the_clock(api.account)
            ended, next_step = "up to the clock, then equal", ""
    # That is said where nothing better is known.
    assert "mend it" not in next_step
    load(warehouse, api, **how)
    assert warehouse.stored() == shown(api.account), "rows are lost"
    return ended


def shown_until_the_clock(made: Account) -> dict[str, list[tuple[object, ...]]]:
    """Return what the tables should hold where the server's clock is behind its rows."""
    clock = (START - TEN_MINUTES).isoformat()[:19]
    return shown([row for row in made.rows() if row["updated_at"][:19] < clock], made.sequences())
