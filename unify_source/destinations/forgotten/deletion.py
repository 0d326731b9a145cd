"""Deletes one person from a dataset, whatever the destination, and stores the person's hash."""

from __future__ import annotations

import dlt

from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.forgotten import databases, lakes
from unify_source.destinations.forgotten.people import remember
from unify_source.dlt_seam import FSClientBase
from unify_source.resources import BY_NAME
from unify_source.settings import ICEBERG


def take_out(pipeline: dlt.Pipeline, person_id: str, account: str | None) -> dict[str, int]:
    """Delete all rows of a person, and return how many were in each table."""
    if not merges_in_transactions(pipeline):
        # First: a run after a try that died must not bring back what that deleted.
        remember(pipeline, person_id, account)
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        return lakes.delete_from_lake(client, person_id, account)
    return databases.delete_from_database(pipeline, person_id, account)


def keeps_snapshots(pipeline: dlt.Pipeline) -> bool:
    """Tell whether older versions of the tables still hold what was deleted."""
    client = pipeline.destination_client()
    if not isinstance(client, FSClientBase):
        return False
    tables = BY_NAME.keys() & client.schema.tables.keys()
    return any(client.prepare_load_table(each).get("table_format") == ICEBERG for each in tables)


def take_back_differences(pipeline: dlt.Pipeline, verify_id: str) -> None:
    """Delete the differences that one run of `verify` wrote, if any."""
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lakes.take_back(client, verify_id)
    else:
        databases.take_back(pipeline, verify_id)
