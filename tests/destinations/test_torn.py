"""A file of dlt's that a full disk or a kill truncated in a lake stops no later run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import IS_SOAK
from destinations import opened
from lakes import Parquet
from standing import account, change, load
from warehouse import shown

from unify_source import UnifyError, unify_source
from unify_source.runs.status import status
from unify_source.sandbox import DRIFTS, Sandbox

Serve = Callable[..., Sandbox]


@pytest.fixture
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Parquet]:
    with opened(Parquet, home, request) as found:
        yield found


def loaded_twice(warehouse: Parquet, serve: Serve) -> Sandbox:
    """Load some rows, and then changed ones with new columns, which make a new schema version."""
    changing = account(60)
    load(warehouse, serve(changing))
    api = serve(changing, reshape=DRIFTS["new-fields"])
    change(changing, 20)
    load(warehouse, api)
    return api


def newest(warehouse: Parquet, table: str) -> Path:
    """Return the file of a table that was written last."""
    files = [file for file in Path(warehouse.place, table).iterdir() if file.name != "init"]
    return max(files, key=lambda file: file.stat().st_mtime)


def cut_newest(warehouse: Parquet, table: str, part: float) -> Path:
    """Truncate the file that was written last, and return it."""
    file = newest(warehouse, table)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    return file


TWINS = [("_dlt_pipeline_state", 0.9), ("_dlt_version", 0), ("_dlt_loads", 0)]


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("_dlt_pipeline_state", 0),
        ("_dlt_version", 0.9),
        ("_dlt_loads", 0.9),
        *(TWINS if IS_SOAK else ()),
    ],
)
def test_a_run_deletes_truncated_files_and_reloads_their_rows(
    table: str, part: float, serve: Serve, warehouse: Parquet
) -> None:
    api = loaded_twice(warehouse, serve)

    cut_newest(warehouse, table, part)
    load(warehouse, api)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.long
@pytest.mark.parametrize(
    ("run", "table", "part"),
    [("sync", "people", 0), ("sync", "sequences", 0.9), ("dlt", "reply_classifications", 0.5)],
)
def test_rows_of_a_load_that_died_while_it_wrote_a_file_are_loaded_again(
    run: str, table: str, part: float, serve: Serve, warehouse: Parquet
) -> None:
    changing = account(200)
    changing.pause_sequence(changing.sequences()[0]["id"])
    api = serve(changing)
    load(warehouse, api)
    # dlt writes these last.
    for record in ("_dlt_loads", "_dlt_pipeline_state"):
        newest(warehouse, record).unlink()
    torn = cut_newest(warehouse, table, part)

    if run == "sync":
        load(warehouse, api)
    else:
        an_hour_ago = time.time() - 3600
        os.utime(torn, (an_hour_ago, an_hour_ago))
        warehouse.pipeline("another").run(unify_source(api_key="sandbox-key", base_url=api.url))
    assert warehouse.stored() == shown(api.account)
    assert load(warehouse, api).enrollments == 0


@pytest.mark.long
@pytest.mark.parametrize("table", ["_dlt_pipeline_state", "_dlt_version"])
def test_a_dlt_run_deletes_truncated_files_once_no_run_can_still_be_writing_them(
    table: str, serve: Serve, warehouse: Parquet
) -> None:
    api = loaded_twice(warehouse, serve)
    torn = cut_newest(warehouse, table, 0.5)

    unify_source(api_key="sandbox-key", base_url=api.url)
    assert torn.exists()

    an_hour_ago = time.time() - 3600
    os.utime(torn, (an_hour_ago, an_hour_ago))
    for other in set(torn.parent.glob("*.jsonl")) - {torn}:
        os.utime(other, (an_hour_ago - 1, an_hour_ago - 1))
    pipeline = warehouse.pipeline()
    pipeline.run(unify_source(api_key="sandbox-key", base_url=api.url))
    assert warehouse.stored() == shown(api.account)


def test_a_load_with_a_truncated_record_does_not_count(serve: Serve, warehouse: Parquet) -> None:
    load(warehouse, serve(account(20)))
    cut_newest(warehouse, "_dlt_loads", 0.5)

    assert status(warehouse.pipeline()).loads == []


@pytest.mark.parametrize("table", ["_dlt_pipeline_state", "_dlt_version"])
def test_a_read_only_command_names_a_truncated_file_and_the_command_that_deletes_it(
    table: str, serve: Serve, warehouse: Parquet
) -> None:
    api = serve(account(20))
    load(warehouse, api)
    cut_newest(warehouse, table, 0.5)

    with pytest.raises(UnifyError, match=r"is incomplete.*unify-source sync"):
        status(warehouse.pipeline())
