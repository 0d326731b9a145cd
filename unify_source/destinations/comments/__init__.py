"""Writes the data dictionary into comments on tables, views and columns.

dlt writes descriptions only when it creates a table or a column: of both on BigQuery and
Databricks, of columns only on Snowflake. Here, older tables get them too, and changes follow.
"""

from __future__ import annotations

from collections.abc import Collection

import dlt

from unify_source.common.dlt_seam import FSClientBase, kind_of
from unify_source.common.settings import SECTION
from unify_source.destinations.comments import databases, lakes


def keep_described(pipeline: dlt.Pipeline, new: Collection[str] = ()) -> None:
    """Write the data dictionary into the comments of the tables that exist, where it is missing.

    In a lake only for tables that are `new`: a run opens the others anyway, and comments them then.
    """
    if (kind := kind_of(pipeline.destination)) in databases.COMMENTS:
        with pipeline.sql_client() as sql:
            databases.describe_tables(sql, kind)
    elif new and isinstance(client := pipeline.destination_client(SECTION), FSClientBase):
        lakes.describe_tables(client, new)
