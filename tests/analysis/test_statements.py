"""The SQL of the views for warehouses that do not run here, as a parser reads it."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import expressions as exp

from unify_source.analysis.models import models
from unify_source.analysis.statements import view_of


@pytest.mark.parametrize("dialect", ["snowflake", "databricks"])
def test_a_view_is_created_with_a_comment_on_itself_and_on_each_column(dialect: str) -> None:
    for model in models().values():
        query = model.rendered(
            ref=lambda name: f'"m"."{name}"', source=lambda name: f'"t"."{name}"'
        )

        statement = view_of(model, query, f'"m"."{model.name}"', dialect)

        [view] = sqlglot.parse(statement, read=dialect)
        assert isinstance(view, exp.Create)
        table = view.find(exp.SchemaCommentProperty)
        assert table
        assert table.name == model.description
        assert {
            column.name: column.find(exp.CommentColumnConstraint).name
            for column in view.this.expressions
        } == {column.name: column.description for column in model.columns}
        assert view.expression.named_selects[:1] in ([model.columns[0].name], ["*"])


def test_a_database_that_comments_afterwards_gets_a_view_without_comments() -> None:
    for dialect in ("duckdb", "postgres", "redshift", "clickhouse", "bigquery"):
        model = models()["sequence_funnel"]
        query = model.rendered(ref=str, source=str)
        assert "COMMENT" not in view_of(model, query, '"m"."sequence_funnel"', dialect)
