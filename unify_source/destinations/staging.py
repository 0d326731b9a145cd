"""Refuses datasets of which one would be the staging dataset of the other."""

from __future__ import annotations

from typing import Any

import dlt

from unify_source.common.dlt_seam import FSClientBase, WithStagingDataset
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import ENROLLMENTS
from unify_source.destinations.databases import table_exists
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.stored.contents import is_queried
from unify_source.destinations.stored.history import LOADS


def refuse_shared_staging(pipeline: dlt.Pipeline) -> None:
    """Raise ConfigurationError if two datasets would share their tables as one's staging tables.

    dlt merges rows through tables in a second dataset, which each load empties. If that is a
    dataset of its own, or this one is another's, a load would empty tables that are in use.
    """
    client: Any = pipeline.destination_client()
    is_database = isinstance(client, WithStagingDataset) and not isinstance(client, FSClientBase)
    own = client.sql_client.dataset_name if is_database and is_queried(client) else None
    database = duckdb_database(pipeline)
    # Opening a file would create it.
    if not own or (database and not database.has_content):
        return
    before, _, after = str(client.config.staging_dataset_name_layout).partition("%s")
    owner = own[len(before) : len(own) - len(after)]
    staging = client.sql_client.staging_dataset_name
    # A dataset that only has staging tables has no loads. Other sources have other tables.
    if _has(pipeline, client, staging, LOADS):
        raise _shared(own, emptied=staging, by=own)
    is_staging = bool(owner) and f"{before}{owner}{after}" == own
    names = (LOADS, ENROLLMENTS.name)
    if is_staging and all(_has(pipeline, client, owner, name) for name in names):
        raise _shared(own, emptied=own, by=owner)


def _has(pipeline: dlt.Pipeline, client: Any, dataset: str, table: str) -> bool:
    with client, client.sql_client.with_alternative_dataset_name(dataset):
        return table_exists(pipeline, client, table)


def _shared(own: str, *, emptied: str, by: str) -> ConfigurationError:
    return ConfigurationError(
        f"is {own!r}, but each load of {by!r} would empty the tables of {emptied!r}, where dlt"
        " keeps the rows that it merges.",
        "Choose another name for the dataset, or another database.",
        setting="dataset",
    )
