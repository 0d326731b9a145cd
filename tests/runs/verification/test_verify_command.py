"""The command `verify`: its result, its exit code, and what it says on the way."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from commands import command, only_json
from damage import verified
from destinations import Destination, DuckDB
from loaded import loaded
from pages import of_api
from standing import Serve, account

from unify_source.runs.status import status

KINDS = ["missing", "stale", "extra", "duplicate", "orphaned"]


def test_it_exits_with_4_until_the_difference_is_repaired(serve: Serve, home: Path) -> None:
    api = of_api(serve(account(20)))
    command("sync", "--quiet", **api)
    with duckdb.connect(str(home / "unify_gtm.duckdb")) as connection:
        connection.execute("UPDATE unify.enrollments SET is_paused = NOT is_paused")

    quiet = command("verify", "--quiet", **api)
    differs = command("verify", "--json", **api)
    repaired = command("verify", "--repair", **api)
    equal = command("verify", "--json", **api)

    assert (quiet.returncode, quiet.stdout) == (4, "")
    assert quiet.stderr.startswith("20 rows differ from the API")
    assert differs.returncode == 4
    assert list(only_json(differs)) == ["verdict", "tables", "quarantined", "repaired"]
    assert all(list(kinds) == KINDS for kinds in only_json(differs)["tables"].values())
    assert only_json(differs)["tables"]["enrollments"]["stale"] == 20
    assert repaired.returncode == 0
    assert "20 differences were repaired." in repaired.stdout
    assert (equal.returncode, only_json(equal)["verdict"]) == (0, "equal")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_a_repair_that_would_delete_much_says_so_however_little_is_printed(
    how: str, serve: Serve
) -> None:
    still = account(40)
    api = of_api(serve(still))
    command("sync", "--quiet", **api)
    for row in still.rows()[:20]:
        still.remove(row["id"])

    stopped = command("verify", "--repair", how, **api)

    assert stopped.returncode == 4
    assert "20 of 40 rows of enrollments" in stopped.stderr
    assert "--yes" in stopped.stderr


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_status_shows_loads_and_no_verification(warehouse: Destination, serve: Serve) -> None:
    api = loaded(warehouse, serve)
    before = status(warehouse.pipeline()).loads
    warehouse.change("DELETE FROM unify.people")

    assert verified(warehouse, api).differences

    assert status(warehouse.pipeline()).loads == before
