"""A Dagster project that runs as it is: `dagster dev -f definitions.py`.

Set UNIFY_API_KEY, and the first day to load. Without credentials the tables go into
`unify_gtm.duckdb` in the current folder; see the page on orchestration for Postgres and for
several accounts.
"""

from __future__ import annotations

import dagster as dg

from unify_source.dagster import UnifyAccount, UnifyDataset, unify_definitions

defs = dg.Definitions.merge(
    unify_definitions(
        start="2026-01-01",
        account=UnifyAccount(api_key=dg.EnvVar("UNIFY_API_KEY")),
        dataset=UnifyDataset(destination="duckdb", dataset="unify"),
    ),
    # The steps of a run take turns on the dataset: processes of their own would gain nothing.
    dg.Definitions(executor=dg.in_process_executor),
)
