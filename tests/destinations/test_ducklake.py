"""DuckLake: what no promise says. The promises on it are tried with those of the other lakes."""

from __future__ import annotations

import pytest
from damage import found, verified
from destinations import Destination
from ducklakes import DuckLake
from standing import Serve, account, change, load


@pytest.mark.ducklake
@pytest.mark.parametrize("warehouse", [DuckLake], indirect=True)
def test_a_verify_finds_what_was_damaged_and_nothing_else(
    warehouse: Destination, serve: Serve
) -> None:
    api = serve(account())
    load(warehouse, api)
    change(api.account, 40)
    load(warehouse, api)

    assert found(verified(warehouse, api)) == {}
    [first, *_] = warehouse.keys("people")
    warehouse.change(f"UPDATE unify.people SET last_name = 'Another' WHERE id = '{first}'")
    assert found(verified(warehouse, api)) == {"people": {"stale": 1}}
