"""Writes comments on tables, views and columns in SQL, on databases and warehouses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from dlt.destinations.exceptions import DatabaseException

from unify_source.common.resources import DESCRIBED, MARK
from unify_source.common.settings.accounts import ACCOUNT, DESCRIPTION

Dictionary = Mapping[tuple[str, str], str]
"""What each (table, column) means; the table itself has an empty column."""

TABLE, VIEW = "TABLE", "VIEW"

_log = logging.getLogger(__name__)
_warned: set[str] = set()


def plain(text: str) -> str:
    """Return a text as an SQL literal in which a backslash is an ordinary character."""
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    """Return a text as an SQL literal in which a backslash escapes."""
    return plain(text.replace("\\", "\\\\"))


class Comments(NamedTuple):
    """The SQL to read and write comments on one kind of destination."""

    questions: tuple[str, ...]
    literal: Callable[[str], str]
    of_table: str = "COMMENT ON {what} {place} IS {text}"
    of_column: str = "COMMENT ON COLUMN {place}.{column} IS {text}"
    of_views: bool = True

    def known(self, client: Any, schema: str) -> dict[tuple[str, str], str | None]:
        """Return the comments on each table and column of a schema, None for those without one."""
        return {
            (table, column): text
            for question in self.questions
            for table, column, text in client.execute_sql(
                question.format(schema=self.literal(schema))
            )
            or ()
        }

    def statement(self, what: str, place: str, column: str, text: str) -> str:
        """Return the SQL for one comment; `place` and `column` are already quoted."""
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
    # DuckDB does not unescape E'' in a comment, as it does elsewhere.
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
        # dlt ends a statement at every semicolon, even one within a literal.
        lambda text: escaped(text).replace(";", r"\x3B"),
        of_table="ALTER TABLE {place} MODIFY COMMENT {text}",
        of_column="ALTER TABLE {place} COMMENT COLUMN {column} {text}",
    ),
}
"""By kind of destination. ClickHouse has a database where others have a schema."""


def describe_tables(client: Any, kind: str) -> None:
    """Write the data dictionary into comments on the tables that exist."""
    describe(client, kind, TABLE, _DICTIONARY)


def describe(client: Any, kind: str, what: str, dictionary: Dictionary) -> None:
    """Write a dictionary into comments on TABLE or VIEW, if the destination has comments.

    Comments that are up to date are skipped, so a run without changes makes one query and writes
    nothing. An error is logged once, as a warning.
    """
    comments = COMMENTS.get(kind)
    if comments is None or (what == VIEW and not comments.of_views):
        return
    try:
        statements = list(_missing(client, comments, what, dictionary))
        if statements:
            # Without a transaction, DuckDB would write each of a hundred to disk.
            with client.begin_transaction():
                client.execute_many(statements)
    except DatabaseException as error:
        # Only a table's owner may comment on it, and a run may have another role.
        warn_once(client.dataset_name, error)


def _missing(client: Any, comments: Comments, what: str, dictionary: Dictionary) -> Iterator[str]:
    # Snowflake has names in upper case, and ClickHouse the dataset as part of a table's name.
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
    """Log why a dataset has no comments; the rows are there, which matters more."""
    if dataset not in _warned:
        _warned.add(dataset)
        _log.warning("No comments in %s: %s", dataset, str(error).strip())


_DICTIONARY = {
    **{(table.name, ""): table.description for table in DESCRIBED},
    **{(table.name, ACCOUNT): DESCRIPTION for table in DESCRIBED},
    **{(table.name, MARK.name): MARK.description for table in DESCRIBED},
    **{(table.name, each.name): each.description for table in DESCRIBED for each in table.columns},
}
