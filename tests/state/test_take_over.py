"""What an earlier version loaded is taken over: tables, schema and state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dlt
import duckdb
from conftest import KEY
from standing import account, change
from warehouse import shown, stored

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
