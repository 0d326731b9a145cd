"""Writes the SQL that creates a view, in the dialect of a destination. Pure."""

from __future__ import annotations

import sqlglot
from sqlglot import expressions as exp

from unify_source.analysis.models import Model

_WRITTEN_IN = "postgres"
# Only ClickHouse fills the missing side of a join with "" or 0, and prefers an alias to a column.
_SETTINGS = {"clickhouse": " SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1"}
# They comment on the columns of a view only as it is created.
_COMMENTED = {"snowflake", "databricks"}


def view_of(model: Model, query: str, place: str, dialect: str) -> str:
    """Return the statement that creates or replaces the view of a model at a quoted `place`."""
    view = f"CREATE OR REPLACE VIEW {place} AS {query}"
    statement = sqlglot.parse_one(view, read=_WRITTEN_IN)
    if dialect in _COMMENTED:
        columns = [_described(column.name, column.description) for column in model.columns]
        statement.set("this", exp.Schema(this=statement.this, expressions=columns))
        text = exp.SchemaCommentProperty(this=exp.Literal.string(model.description))
        statement.set("properties", exp.Properties(expressions=[text]))
    return statement.sql(dialect=dialect, comments=False) + _SETTINGS.get(dialect, "")


def _described(name: str, description: str) -> exp.ColumnDef:
    text = exp.CommentColumnConstraint(this=exp.Literal.string(description))
    return exp.ColumnDef(
        this=exp.to_identifier(name), constraints=[exp.ColumnConstraint(kind=text)]
    )
