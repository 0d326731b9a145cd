"""A disk that is full at any moment loses no row, and the next run catches up.

A limit on the size of files stands in for the disk: a write beyond it fails, whichever file it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from conftest import rounds_and_chance, start_command
from destinations import DATASET, Destination, DuckDB, Postgres
from held import held, lost
from patience import PATIENCE
from postgres import Server
from standing import account, change
from warehouse import shown

from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]

# Enough for the largest table's file in Postgres to exceed a file of its log.
ROWS_OF_POSTGRES = 4_000
ROWS_OF_DUCKDB = 1_000
CHANGES = 300
LONG_AGO = "2000-01-01"
SMALLEST_OF_POSTGRES = 1_100_000


def run(api: Sandbox, warehouse: Destination, *words: str, limit: int = 0) -> tuple[int, str]:
    """Run a command whose process may write no larger file than `limit`, if there is one."""
    words = (*words, "--quiet", "--destination", warehouse.dlt_name)
    environment = {warm.LARGEST_FILE: str(limit)}
    process = start_command(api, *words, window_rows=ROWS_OF_POSTGRES, environment=environment)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def assert_survives(
    api: Sandbox,
    warehouse: Destination,
    sizes: tuple[int, int],
    run_with: Callable[[tuple[str, ...], int], tuple[int, str]],
) -> None:
    """Run with the file size limited to values in a range, and check every row after each run."""
    rounds, chance = rounds_and_chance(2)
    smallest, largest = sizes
    failed = 0
    for number in range(rounds):
        change(api.account, CHANGES, seed=chance.randrange(10**6))
        limit = int(smallest * (largest / smallest) ** ((number + chance.random()) / rounds))
        before = held(warehouse)
        words = ("sync",) if number % 2 else ("backfill", "--from", LONG_AGO)
        code, errors = run_with(words, limit)
        assert code in (0, 1), (limit, errors)
        assert "Traceback" not in errors
        failed += code
        assert lost(before, held(warehouse), api.account) == {}
    assert failed

    assert run(api, warehouse, "sync") == (0, "")
    assert warehouse.stored() == shown(api.account)


@pytest.mark.rounds
def test_a_full_disk_under_duckdb_loses_nothing(serve: Serve, home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        file = home / "unify_gtm.duckdb"
        warehouse = DuckDB({"DESTINATION__DUCKDB__CREDENTIALS": str(file)})
        for name, value in warehouse.environment.items():
            patch.setitem(os.environ, name, value)
        api = serve(account(ROWS_OF_DUCKDB))
        assert run(api, warehouse, "sync") == (0, "")

        assert_survives(
            api,
            warehouse,
            (50_000, int(1.3 * file.stat().st_size)),
            lambda words, limit: run(api, warehouse, *words, limit=limit),
        )


# A row of the matrix is the same at four moments; a soak tries random ones.
@pytest.mark.matrix
@pytest.mark.rounds
def test_a_full_disk_under_postgres_loses_nothing(serve: Serve) -> None:
    with Server(megabytes_of_log_file=1) as server, pytest.MonkeyPatch.context() as patch:
        warehouse = Postgres({"DESTINATION__POSTGRES__CREDENTIALS": server.dsn})
        for name, value in warehouse.environment.items():
            patch.setitem(os.environ, name, value)
        api = serve(account(ROWS_OF_POSTGRES))
        assert run(api, warehouse, "sync") == (0, "")
        ((largest,),) = warehouse.ask(f"SELECT pg_relation_size('{DATASET}.enrollments')")

        def run_with(words: tuple[str, ...], limit: int) -> tuple[int, str]:
            with server.largest_file(limit):
                return run(api, warehouse, *words)

        assert_survives(api, warehouse, (SMALLEST_OF_POSTGRES, int(1.3 * largest)), run_with)


@pytest.mark.parametrize("limit", [1_000, 5_000, 9_000])
def test_a_disk_that_is_full_as_duckdbs_file_is_created_stops_no_later_run(
    limit: int, serve: Serve, home: Path
) -> None:
    warehouse = DuckDB({"DESTINATION__DUCKDB__CREDENTIALS": str(home / "unify_gtm.duckdb")})
    api = serve(account(20))

    code, errors = run(api, warehouse, "sync", limit=limit)

    assert code == 1
    assert "Traceback" not in errors
    assert list(home.glob("*unify_gtm.duckdb*")) == list(home.glob("*.lock*"))
    assert run(api, warehouse, "sync") == (0, "")
    assert warehouse.stored() == shown(api.account)
