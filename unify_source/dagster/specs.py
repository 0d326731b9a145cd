"""The facts of tables and models, as Dagster shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from unify_source.common.resources import BY_NAME, KEY, Column, Table
from unify_source.dagster.partitions import Partitioning
from unify_source.runs.analysis.models import Model, models

# Dagster looks at when a table was loaded, not at which day: a backfill of an old day makes it
# fresh as well. The hourly schedule leaves a table no older than an hour, a daily one 24.
_WARN, _FAIL = timedelta(hours=26), timedelta(hours=36)
GROUP = "unify"
MODELS = "models"


def table_key(table: str) -> dg.AssetKey:
    """Return the asset of a table."""
    return dg.AssetKey([GROUP, table])


def model_key(model: str) -> dg.AssetKey:
    """Return the asset of a model."""
    return dg.AssetKey([GROUP, MODELS, model])


def table_specs(partitions: Partitioning) -> list[dg.AssetSpec]:
    """Return an asset for each table of data."""
    return [
        dg.AssetSpec(
            table_key(table.name),
            description=table.description,
            group_name=GROUP,
            kinds={"dlt", "table"},
            partitions_def=partitions,
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=_FAIL, warn_window=_WARN),
            metadata={"dagster/column_schema": dg.TableSchema(list(_columns(table)))},
        )
        for table in BY_NAME.values()
    ]


def model_specs() -> list[dg.AssetSpec]:
    """Return an asset for each model, downstream of what it reads."""
    return [
        dg.AssetSpec(
            model_key(model.name),
            deps=list(_reads(model)),
            description=model.description,
            group_name=GROUP,
            kinds={"view", "sql"},
            metadata={
                "dagster/column_schema": dg.TableSchema(
                    [
                        dg.TableColumn(each.name, each.data_type, each.description)
                        for each in model.columns
                    ]
                )
            },
        )
        for model in models().values()
    ]


def _columns(table: Table) -> Iterator[dg.TableColumn]:
    for column in table.columns:
        if not column.is_internal:
            yield dg.TableColumn(
                column.name,
                str(column.type),
                column.description,
                dg.TableColumnConstraints(nullable=column.name != KEY, unique=column.name == KEY),
                tags=_tags(column),
            )


def _tags(column: Column) -> dict[str, str]:
    marks = {"pii": ""} if column.pii else {}
    return {**marks, **({"references": column.references} if column.references else {})}


def _reads(model: Model) -> set[dg.AssetKey]:
    read: set[dg.AssetKey] = set()

    def of_model(name: str) -> str:
        read.add(model_key(name))
        return name

    def of_table(name: str) -> str:
        # dlt's own tables are nobody's assets.
        if name in BY_NAME:
            read.add(table_key(name))
        return name

    model.rendered(ref=of_model, source=of_table)
    return read
