"""Deletes one person from a dataset, whatever the destination, and stores the person's hash."""

from __future__ import annotations

import dlt

from unify_source.common.dlt_seam import FSClientBase, kind_of
from unify_source.common.resources import BY_NAME
from unify_source.common.settings import ICEBERG
from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.forgotten import databases, lakes
from unify_source.destinations.forgotten.people import remember

_SNAPSHOTS = (
    "Older snapshots of the Iceberg tables still hold them: expire these, and delete their files."
)
_KEPT = {
    "athena": "Older snapshots still hold them: run OPTIMIZE ... REWRITE DATA, and VACUUM later.",
    "bigquery": "BigQuery's time travel and fail-safe still hold them, by default for 14 days.",
    "clickhouse": "ClickHouse keeps them until it merges parts: run OPTIMIZE TABLE ... FINAL.",
    "databricks": (
        "Files of the tables still hold them: run REORG TABLE ... APPLY (PURGE), and VACUUM 7 days"
        " later."
    ),
    "ducklake": (
        "Data files still hold them: run ducklake_flush_inlined_data, ducklake_rewrite_data_files"
        " with delete_threshold => 0, ducklake_expire_snapshots and ducklake_cleanup_old_files."
    ),
    "fabric": "The warehouse's time travel still holds them, by default for 30 days.",
    "snowflake": "Snowflake's Time Travel and Fail-safe still hold them, by default for 8 days.",
}
"""What destinations keep of deleted rows, by their own documentation."""


def take_out(pipeline: dlt.Pipeline, person_id: str, account: str | None) -> dict[str, int]:
    """Delete all rows of a person, and return how many were in each table."""
    if not merges_in_transactions(pipeline):
        # First: a run after a try that died must not bring back what that deleted.
        remember(pipeline, person_id, account)
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        return lakes.delete_from_lake(client, person_id, account)
    return databases.delete_from_database(pipeline, person_id, account)


def copies_kept(pipeline: dlt.Pipeline) -> str:
    """Return where older versions of the tables still hold what was deleted, and what to do."""
    client = pipeline.destination_client()
    if not isinstance(client, FSClientBase):
        return _KEPT.get(kind_of(pipeline.destination), "")
    tables = BY_NAME.keys() & client.schema.tables.keys()
    is_iceberg = any(client.prepare_load_table(t).get("table_format") == ICEBERG for t in tables)
    return _SNAPSHOTS if is_iceberg else ""


def take_back_differences(pipeline: dlt.Pipeline, verify_id: str) -> None:
    """Delete the differences that one run of `verify` wrote, if any."""
    client = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        lakes.take_back(client, verify_id)
    else:
        databases.take_back(pipeline, verify_id)
