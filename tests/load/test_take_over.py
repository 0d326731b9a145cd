"""What an earlier version loaded is taken over: tables, schema and state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from conftest import KEY
from lakes import Iceberg
from standing import account, change, load
from warehouse import shown, stored

from unify_source import make_models, unify_source, verify
from unify_source.common.errors import LoadFailed
from unify_source.common.resources import BY_NAME
from unify_source.load.packages import cursor
from unify_source.runs.sync import sync
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]

FILE = "unify_gtm.duckdb"
# Version 0.1.0 loaded an account of 40, and after five changes what was new.
DATASET = Path(__file__).with_name("dataset_of_0_1_0")


def restore(file: str) -> None:
    with duckdb.connect(file) as connection:
        connection.execute((DATASET / "schema.sql").read_text())
        for table in DATASET.glob("*.csv"):
            name = table.stem.removeprefix("unify_")
            connection.execute(
                f"COPY unify.{name} FROM '{table}' (FORMAT csv, HEADER, QUOTE '\"', DELIMITER ',')"
            )


def test_after_an_upgrade_the_next_sync_is_incremental(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    restore(FILE)
    living = account(40)
    change(living, 5)
    seen = living.clock.now()
    change(living, 3, seed=2)
    api = serve(living)

    report = sync(pipeline, api_key=KEY, base_url=api.url)

    # The five within the lookback come once more: their digests were made of other columns.
    assert 3 <= report.enrollments <= 8
    assert len(api.requests) <= 6
    assert stored(FILE) == shown(living)
    at = cursor(pipeline)
    assert at
    assert at >= seen - timedelta(seconds=1)
    again = sync(pipeline, api_key=KEY, base_url=api.url)
    assert again.enrollments == 0
    assert verify(pipeline, api_key=KEY, base_url=api.url).verdict == "equal"
    assert make_models(pipeline).created
    assert 0 < len(unread("people")) < 40
    assert not unread("sequences")


def unread(table: str) -> list[tuple[str]]:
    """Return the keys of the rows that no run has read since the upgrade."""
    with duckdb.connect(FILE, read_only=True) as connection:
        rows: list[tuple[str]] = connection.sql(
            f"SELECT id FROM unify.{table} WHERE known_as_of IS NULL"
        ).fetchall()
        return rows


def test_after_an_upgrade_the_last_version_of_a_person_in_a_load_stays(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    restore(FILE)
    living = account(40)
    # A load with three names of each person, of which only the last is right.
    for name in ("First", "Second", "Third"):
        for row in living.rows():
            at = living.clock.now().isoformat()
            living.put(
                {**row, "id": f"{row['id']}-{name}", "updated_at": at}
                | {"person": {**row["person"], "first_name": name}}
            )
        living.clock.advance(timedelta(hours=1))
    api = serve(living)

    pipeline.run(unify_source(api_key=KEY, base_url=api.url))

    assert len(api.requests) < 10
    assert stored(FILE)["people"] == shown(living)["people"]
    assert unread("people") == []
    assert "_as_of" not in pipeline.default_schema.tables["people"]["columns"]


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", [Iceberg], indirect=True)
def test_an_iceberg_table_from_before_keeps_the_time_of_each_row(
    serve: Serve, warehouse: Iceberg
) -> None:
    living = account(40)
    api = serve(living)
    load(warehouse, api)
    before = dict(warehouse.reads("people", ["id", "known_as_of"]))
    client: Any = warehouse.pipeline().destination_client()
    for table in BY_NAME.values():
        if table.newest == "known_as_of":
            with client.load_open_table("iceberg", table.name).update_schema() as update:
                update.rename_column("known_as_of", "_as_of")
    change(living, 5)

    load(warehouse, api)

    assert warehouse.stored() == shown(living)
    after = dict(warehouse.reads("people", ["id", "known_as_of"]))
    assert {key for key, at in after.items() if at == before.get(key)} > set()
    assert after != before
    assert verify(warehouse.pipeline(), api_key=KEY, base_url=api.url).verdict == "equal"


def test_models_before_the_first_sync_of_an_upgrade_ask_for_it(
    serve: Serve, pipeline: dlt.Pipeline
) -> None:
    restore(FILE)
    with pytest.raises(LoadFailed, match="run unify-source sync"):
        make_models(pipeline)

    sync(pipeline, api_key=KEY, base_url=serve(account(40)).url)

    assert make_models(pipeline)
