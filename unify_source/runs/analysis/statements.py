"""Writes the SQL that creates a view, in the dialect of a destination. Pure."""

from __future__ import annotations

from functools import lru_cache

import sqlglot
from sqlglot import expressions as exp

from unify_source.runs.analysis.models import Column, Model

_WRITTEN_IN = "postgres"
# Only ClickHouse fills the missing side of a join with "" or 0, and prefers an alias to a column.
_SETTINGS = {"clickhouse": " SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1"}
# These comment on the columns of a view only as it is created.
_COMMENTED = {"snowflake", "databricks", "bigquery"}


@lru_cache(maxsize=100)
def view_of(model: Model, query: str, place: str, dialect: str) -> str:
    """Return the statement that creates or replaces the view of a model at a quoted `place`."""
    view = f"CREATE OR REPLACE VIEW {place} AS {query}"
    statement = sqlglot.parse_one(view, read=_WRITTEN_IN)
    if dialect in _COMMENTED:
        columns = [_described(column, dialect) for column in model.columns]
        statement.set("this", exp.Schema(this=statement.this, expressions=columns))
        statement.set("properties", _options(model.description, dialect))
    return statement.sql(dialect=dialect, comments=False, copy=False) + _SETTINGS.get(dialect, "")


def _described(column: Column, dialect: str) -> exp.ColumnDef:
    if dialect == "bigquery":
        text: exp.Expression = _options(column.description, dialect)
    else:
        text = exp.CommentColumnConstraint(this=exp.Literal.string(column.description))
    name = exp.to_identifier(column.name)
    return exp.ColumnDef(this=name, constraints=[exp.ColumnConstraint(kind=text)])


def _options(description: str, dialect: str) -> exp.Properties:
    text = exp.Literal.string(description)
    # sqlglot writes COMMENT for BigQuery as well, which has OPTIONS instead.
    if dialect == "bigquery":
        option: exp.Expression = exp.Property(this=exp.Var(this="description"), value=text)
    else:
        option = exp.SchemaCommentProperty(this=text)
    return exp.Properties(expressions=[option])
