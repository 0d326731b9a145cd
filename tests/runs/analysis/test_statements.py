"""The SQL of the views for warehouses that do not run here, as a parser reads it."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import expressions as exp

from unify_source.runs.analysis.models import models
from unify_source.runs.analysis.statements import view_of


@pytest.mark.parametrize("dialect", ["snowflake", "databricks", "bigquery"])
def test_a_view_is_created_with_a_comment_on_itself_and_on_each_column(dialect: str) -> None:
    for model in models().values():
        query = model.rendered(
            ref=lambda name: f'"m"."{name}"', source=lambda name: f'"t"."{name}"'
        )

        statement = view_of(model, query, f'"m"."{model.name}"', dialect)

        [view] = sqlglot.parse(statement, read=dialect)
        assert isinstance(view, exp.Create)
        assert text_of(view.args["properties"]) == model.description
        assert {column.name: text_of(column) for column in view.this.expressions} == {
            column.name: column.description for column in model.columns
        }


def text_of(element: exp.Expression) -> str:
    """Return the only text in it."""
    [text] = [literal.name for literal in element.find_all(exp.Literal)]
    return str(text)


def test_a_database_that_comments_afterwards_gets_a_view_without_comments() -> None:
    for dialect in ("duckdb", "postgres", "redshift", "clickhouse"):
        model = models()["sequence_funnel"]
        query = model.rendered(ref=str, source=str)
        assert "COMMENT" not in view_of(model, query, '"m"."sequence_funnel"', dialect)
