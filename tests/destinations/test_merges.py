"""A merge removes no row without inserting its newer version, whatever fails in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import KEY
from destinations import DATASET, Destination, DuckDB, Postgres
from dlt.pipeline.exceptions import PipelineStepFailed
from loaded import loaded
from standing import account, change
from warehouse import SHOWN, shown

from unify_source import UnifyError, sync, unify_source
from unify_source.common.dlt_seam import quick_clients
from unify_source.common.resources import QUARANTINE, Table
from unify_source.common.times import EPOCH
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]
Load = Callable[[Destination, str], Any]

NAME = "no_insert"
STAGING = f"{DATASET}_staging"
BROKEN = "11111111-1111-4111-8111-111111111111"

# Elsewhere a merge is no transaction.
on_both = pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def forbid_newer_rows(warehouse: Destination, table: Table) -> None:
    """Let every INSERT of a row that is newer than those of the table fail."""
    stored = warehouse.reads(table.name, [table.newest])
    newest = max((at for (at,) in stored), default=EPOCH)
    add_check(warehouse, table, f"{table.newest} <= '{newest.isoformat()}'")


def add_check(warehouse: Destination, table: Table, condition: str) -> None:
    """Let every INSERT of a row fail that does not meet a condition."""
    name = f"{DATASET}.{table.name}"
    if isinstance(warehouse, Postgres):
        check = f"CHECK ({condition}) NOT VALID"
        warehouse.ask(f"ALTER TABLE {name} ADD CONSTRAINT {NAME} {check}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        # DuckDB adds no constraint to a table that exists, and checks the rows that it copies.
        columns = ", ".join(
            f'"{column}" {kind}'
            for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall()
        )
        connection.execute(f"CREATE TABLE kept AS FROM {name}")
        connection.execute(f"DROP TABLE {name}")
        connection.execute(f"CREATE TABLE {name} ({columns}, CHECK ({condition}))")
        where = f"WHERE {condition}"
        connection.execute(f"INSERT INTO {name} SELECT * FROM kept {where}")


def allow_newer_rows(warehouse: Destination, table: Table) -> None:
    name = f"{DATASET}.{table.name}"
    if isinstance(warehouse, Postgres):
        warehouse.ask(f"ALTER TABLE {name} DROP CONSTRAINT {NAME}")
        return
    (file,) = warehouse.environment.values()
    with duckdb.connect(file) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE kept AS FROM {name}")
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM kept")
        connection.execute("DROP TABLE kept")


@pytest.mark.rounds
@on_both
def test_an_insert_that_fails_leaves_every_row_where_it_was(
    serve: Serve, warehouse: Destination, home: Path
) -> None:
    api = loaded(warehouse, serve)
    kept, package = home / "kept", home / "package"
    warehouse.keep(kept)
    change_every_table(api)
    pipeline = warehouse.pipeline()
    pipeline.extract(unify_source(api_key=KEY, base_url=api.url))
    pipeline.normalize()
    waiting = Path(pipeline.working_dir, "load")
    shutil.move(waiting, package)

    with quick_clients(pipeline):
        for table in (*SHOWN, QUARANTINE):
            shutil.copytree(package, waiting, ignore=others_than(table))
            forbid_newer_rows(warehouse, table)
            before = warehouse.stored_table(table.name)
            with pytest.raises(PipelineStepFailed, match=rf"\b{table.name}\b"):
                pipeline.load()
            assert warehouse.stored_table(table.name) == before
            warehouse.restore(kept)
            shutil.rmtree(waiting)

    shutil.move(package, waiting)
    pipeline.load()
    api.account.remove(BROKEN)
    assert warehouse.stored() == shown(api.account)


def others_than(table: Table) -> Callable[[str, list[str]], list[str]]:
    """Copy a package without the files of other tables."""

    def others(folder: str, files: list[str]) -> list[str]:
        is_for_files = Path(folder).name == "new_jobs"
        return [name for name in files if is_for_files and not name.startswith(f"{table.name}.")]

    return others


def change_every_table(api: Sandbox) -> None:
    """Change the account so that a load has rows for each table, the quarantine included."""
    account, sequence = api.account, api.account.sequences()[0]
    # One more sequence, with its owner, schedule and rules.
    account.upgrade_sequence(sequence["id"])
    change(account, 100)
    row = account.rows()[-1]
    account.put({**row, "id": BROKEN, "is_paused": "true"})


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_a_first_load_by_dlt_fills_a_dataset_that_somebody_created_for_it(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(20))
    warehouse.change(f"CREATE SCHEMA {DATASET}")

    by_three_lines(warehouse, api.url)

    assert warehouse.stored() == shown(api.account)


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_a_first_load_that_fails_leaves_a_folder_in_which_every_later_run_works(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(20))
    # dlt takes it for the staging table, and cannot write a row into it.
    warehouse.change_each(
        [f"CREATE SCHEMA {STAGING}", f"CREATE VIEW {STAGING}.people AS SELECT 1 AS id"]
    )
    with pytest.raises(UnifyError):
        by_sync(warehouse, api.url)
    warehouse.change(f"DROP VIEW {STAGING}.people")

    for _ in range(2):
        by_sync(warehouse, api.url)
        assert warehouse.stored() == shown(api.account)
