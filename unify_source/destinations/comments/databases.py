"""Writes comments on tables, views and columns in SQL, on databases and warehouses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from dlt.destinations.exceptions import DatabaseException

from unify_source.accounts import ACCOUNT, DESCRIPTION
from unify_source.resources import ALL_TABLES

Dictionary = Mapping[tuple[str, str], str]
"""What each (table, column) means; the column of a table's own meaning is empty."""

TABLE, VIEW = "TABLE", "VIEW"

_log = logging.getLogger(__name__)
_warned: set[str] = set()


def plain(text: str) -> str:
    """Return a text as SQL where a backslash is one."""
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    """Return a text as SQL where a backslash escapes."""
    return plain(text.replace("\\", "\\\\"))


class Comments(NamedTuple):
    """How a kind of destination is asked for its comments, and told them."""

    questions: tuple[str, ...]
    literal: Callable[[str], str]
    of_table: str = "COMMENT ON {what} {place} IS {text}"
    of_column: str = "COMMENT ON COLUMN {place}.{column} IS {text}"
    of_views: bool = True

    def known(self, client: Any, schema: str) -> dict[tuple[str, str], str | None]:
        """Return the comments on each table and column of a schema, or None where it has none."""
        return {
            (table, column): text
            for question in self.questions
            for table, column, text in client.execute_sql(
                question.format(schema=self.literal(schema))
            )
            or ()
        }

    def statement(self, what: str, place: str, column: str, text: str) -> str:
        """Return what writes one comment; `place` and `column` are quoted already."""
        form = self.of_column if column else self.of_table
        return form.format(what=what, place=place, column=column, text=self.literal(text))


_DUCKDB = Comments(
    (
        """
        SELECT table_name, '', comment FROM duckdb_tables() WHERE schema_name = {schema}
        UNION ALL
        SELECT view_name, '', comment FROM duckdb_views() WHERE schema_name = {schema}
        UNION ALL
        SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = {schema}
        """,
    ),
    # DuckDB reads E'' elsewhere, but takes its backslashes as they are in a comment.
    plain,
)
_POSTGRES = Comments(
    (
        """
        SELECT c.relname, '', obj_description(c.oid, 'pg_class')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = {schema}
        UNION ALL
        SELECT c.relname, a.attname, col_description(c.oid, a.attnum)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE n.nspname = {schema} AND a.attnum > 0
        """,
    ),
    lambda text: f"E{escaped(text)}",
)
COMMENTS = {
    "duckdb": _DUCKDB,
    "motherduck": _DUCKDB,
    "ducklake": _DUCKDB,
    "postgres": _POSTGRES,
    "redshift": _POSTGRES._replace(literal=escaped),
    "snowflake": Comments(
        (
            """
            SELECT table_name, '', comment FROM information_schema.tables
            WHERE table_schema = {schema}
            UNION ALL
            SELECT table_name, column_name, comment FROM information_schema.columns
            WHERE table_schema = {schema}
            """,
        ),
        escaped,
        of_views=False,
    ),
    "clickhouse": Comments(
        (
            "SELECT name, '', comment FROM system.tables WHERE database = {schema}",
            "SELECT table, name, comment FROM system.columns WHERE database = {schema}",
        ),
        # dlt takes every semicolon for the end of a statement, even within a text.
        lambda text: escaped(text).replace(";", r"\x3B"),
        of_table="ALTER TABLE {place} MODIFY COMMENT {text}",
        of_column="ALTER TABLE {place} COMMENT COLUMN {column} {text}",
    ),
}
"""By the kind of destination. Where a schema is meant, ClickHouse has a database."""


def describe_tables(client: Any, kind: str) -> None:
    """Make comments of the data dictionary on the tables that exist."""
    describe(client, kind, TABLE, _DICTIONARY)


def describe(client: Any, kind: str, what: str, dictionary: Dictionary) -> None:
    """Make comments of a dictionary, on TABLE or VIEW, where the destination keeps them.

    One that says so already is left alone, so that a run without news asks one question and writes
    nothing. What cannot be written is warned of, once.
    """
    comments = COMMENTS.get(kind)
    if comments is None or (what == VIEW and not comments.of_views):
        return
    try:
        statements = list(_missing(client, comments, what, dictionary))
        if statements:
            # On its own, DuckDB would write each of a hundred to the disk.
            with client.begin_transaction():
                client.execute_many(statements)
    except DatabaseException as error:
        # Only the owner of a table may comment on it, and a run may have another role.
        warn_once(client.dataset_name, error)


def _missing(client: Any, comments: Comments, what: str, dictionary: Dictionary) -> Iterator[str]:
    # Snowflake has names in capitals, and ClickHouse the dataset as part of a table's name.
    paths = {
        table: client.make_qualified_table_name_path(table, quote=False)
        for table in {table for table, _ in dictionary}
    }
    known = comments.known(client, next(iter(paths.values()))[-2])
    for (table, column), text in dictionary.items():
        stored = paths[table][-1], column and client.escape_column_name(column, quote=False)
        if stored in known and known[stored] != text:
            place = client.make_qualified_table_name(table)
            quoted = column and client.escape_column_name(column)
            yield comments.statement(what, place, quoted, text)


def warn_once(dataset: str, error: BaseException) -> None:
    """Log that a dataset has no comments, and why; the rows are there, which matters more."""
    if dataset not in _warned:
        _warned.add(dataset)
        _log.warning("No comments in %s: %s", dataset, str(error).strip())


_DICTIONARY = {
    **{(table.name, ""): table.description for table in ALL_TABLES},
    **{(table.name, ACCOUNT): DESCRIPTION for table in ALL_TABLES},
    **{(table.name, each.name): each.description for table in ALL_TABLES for each in table.columns},
}
