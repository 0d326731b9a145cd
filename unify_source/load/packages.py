"""Starts a dlt pipeline from its destination, reads its state, and takes loads back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.pipeline import ExtractInfo

from unify_source.common.dlt_seam import (
    FSClientBase,
    empty_working_folder,
    force_state_extract,
    load_pipeline_state_from_destination,
    resource_state,
)
from unify_source.common.errors import LoadFailed
from unify_source.common.resources import BY_NAME, CURSOR, MAIN_LIST, QUARANTINE
from unify_source.common.settings.accounts import state_of_account
from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.stored.contents import row_count
from unify_source.destinations.stored.history import (
    LOADS,
    delete_torn_files,
    load_after_all,
    newest_schema,
)
from unify_source.load.source import SOURCE
from unify_source.load.state.cursors import stored_cursor
from unify_source.load.state.memory import stored_wide_bytes

ALL = tuple(BY_NAME)


def start_over(pipeline: dlt.Pipeline) -> dlt.Schema:
    """Restore the pipeline's state from its destination, and return the schema stored there.

    The working folder is emptied: rows that a dead run left in it may be older than those that
    another machine has loaded since, and the stored cursor says what has been loaded. A pipeline
    that also loads other sources keeps its folder, without our part of it.
    """
    is_shared = bool(set(pipeline.schema_names) - {SOURCE})
    if not is_shared:
        empty_working_folder(pipeline)
    delete_torn_files(pipeline)
    pipeline.sync_destination()
    client: Any = pipeline.destination_client()
    load_after_all(client)
    schema = newest_schema(client, SOURCE)
    if is_shared:
        with client:
            _forget_unloaded(pipeline, client)
    # Also if no load has been finished yet: dlt writes its file only after a change, and without it
    # the next run would find no schema.
    if schema:
        pipeline.schemas.save_schema(schema.clone())
    return schema or dlt.Schema(SOURCE)


def stored_schema(pipeline: dlt.Pipeline) -> dlt.Schema:
    """Return the schema stored in the destination, an empty one before the first load."""
    return newest_schema(pipeline.destination_client(), SOURCE) or dlt.Schema(SOURCE)


def _forget_unloaded(pipeline: dlt.Pipeline, client: Any) -> None:
    """Restore our state from the destination, and delete pending packages that contradict it."""
    ours = _of_source(_stored_state(pipeline, client))
    with pipeline.managed_state() as state:
        if ours or _of_source(state):
            state.setdefault("sources", {})[SOURCE] = ours
        for package in _waiting(pipeline):
            shutil.rmtree(package)
            # The package also contained the state of other sources: write it again.
            force_state_extract(state)


def _waiting(pipeline: dlt.Pipeline) -> Iterator[str]:
    # If dlt died between the two, a package is in both lists, and the second shows it once more.
    for list_packages in (
        pipeline.list_normalized_load_packages,
        pipeline.list_extracted_load_packages,
    ):
        for load in list_packages():
            package = pipeline.get_load_package_info(load)
            tables = {
                job.job_file_info.table_name for jobs in package.jobs.values() for job in jobs
            }
            # dlt writes the state of all sources with the rows of the one that came first.
            if package.schema_name == SOURCE or tables == {package.schema.state_table_name}:
                yield package.package_path


def _stored_state(pipeline: dlt.Pipeline, client: Any) -> Any:
    try:
        return load_pipeline_state_from_destination(pipeline.pipeline_name, client) or {}
    except DestinationUndefinedEntity:
        return {}


def take_back(pipeline: dlt.Pipeline, loads: list[str]) -> None:
    """Make the next run begin where these loads began: their rows stay, and are reloaded."""
    files: Any = pipeline.destination_client()
    if isinstance(files, FSClientBase):
        for table, end in (("_dlt_pipeline_state", "__"), (LOADS, ".")):
            for name in files.list_table_files(table):
                if any(f"__{load}{end}" in name for load in loads):
                    files.fs_client.rm_file(name)
        return
    # dlt restores the state only of loads with status 0. Not every database has an UPDATE.
    change = "UPDATE {} SET status = 1" if merges_in_transactions(pipeline) else "DELETE FROM {}"
    with pipeline.sql_client() as client:
        table = client.make_qualified_table_name(LOADS)
        for load in loads:
            client.execute_sql(f"{change.format(table)} WHERE load_id = %s", load)


def refuse_vanished_files(pipeline: dlt.Pipeline, extracted: ExtractInfo, loaded: set[str]) -> None:
    """Raise LoadFailed if a package with rows, a new state's included, was not loaded."""
    with_rows = {
        package
        for package, parts in extracted.metrics.items()
        if any(table.items_count for part in parts for table in part["table_metrics"].values())
    }
    # To dlt, a working folder that vanished looks like one in which nothing is pending.
    if with_rows - loaded:
        raise LoadFailed(
            f"Files of the current window vanished from the working folder {pipeline.working_dir},"
            " so it was not committed.",
            "Nothing is lost: make sure that nothing removes files of a run, and run it again.",
        )


def state_of(pipeline: dlt.Pipeline, account: str | None = None) -> dict[str, Any]:
    """Return the state that the main resource keeps between runs, as the pipeline knows it."""
    return state_of_account(resource_state(_of_source(pipeline.state), MAIN_LIST.name), account)


def _of_source(state: Any) -> dict[str, Any]:
    kept: dict[str, Any] = state.get("sources", {}).get(SOURCE, {})
    return kept


def wide_bytes(pipeline: dlt.Pipeline) -> int:
    """Return the bytes that made rows wide, of all that a pipeline has ever loaded."""
    state = state_of(pipeline)
    return sum(map(stored_wide_bytes, [state, *state.get("accounts", {}).values()]))


def cursor(
    pipeline: dlt.Pipeline, name: str = CURSOR, account: str | None = None
) -> datetime | None:
    """Return how far a pipeline has loaded, None before the first load."""
    return stored_cursor(state_of(pipeline, account), name)


def quarantined(pipeline: dlt.Pipeline, account: str | None = None) -> int:
    """Return how many rows are in quarantine, from any run."""
    return row_counts(pipeline, (QUARANTINE.name,), account).get(QUARANTINE.name, 0)


def row_counts(
    pipeline: dlt.Pipeline, names: tuple[str, ...] = ALL, account: str | None = None
) -> dict[str, int]:
    """Return the rows of the tables that exist in the dataset, of one account or of all."""
    counts = {name: row_count(pipeline, name, account) for name in names}
    return {name: count for name, count in counts.items() if count is not None}


def refuse_failed_jobs(loaded: Any) -> None:
    """Raise LoadFailed for a load with a failed job, whatever dlt's configuration says."""
    # dlt can be configured to ignore failed jobs: then rows are missing, and the load looks done.
    if loaded.has_failed_jobs:
        tables = sorted(
            {
                job.job_file_info.table_name
                for package in loaded.load_packages
                for job in package.jobs["failed_jobs"]
            }
        )
        raise LoadFailed(
            f"The destination refused rows of {', '.join(tables)}: the window was not committed.",
            "Nothing is lost: fix the cause and run it again.",
        )
