"""What differs between destinations, by dlt's capabilities where they say it.

The file format of rows, text that cannot be stored, indexes on keys, and views that prevent a table
from being dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.exceptions import TerminalValueError
from dlt.destinations.exceptions import DatabaseTerminalException

from unify_source.common.dlt_seam import (
    capabilities,
    fastest_format,
    kind_of,
    merge_in_transactions,
)
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME, ENROLLMENTS, KEY, TEXT, Table
from unify_source.destinations.comments import keep_described
from unify_source.destinations.databases import place_of
from unify_source.destinations.staging import refuse_shared_staging

PARQUET, CSV = "parquet", "csv"
# dlt's CSV does not distinguish empty text from null, and its JSON lines lose Arrow's types.
INSERTS = "insert_values"
CARRIERS = (PARQUET, INSERTS)

# Facts that no capability states. In a row store, an index saves a scan of the table, perhaps of
# millions of rows, in every merge. Postgres cannot store U+0000 in text.
_INDEXED = ("postgres",)
_WITHOUT_NUL = ("postgres", "redshift")
# Postgres drops no table that a view reads.
_WITH_DEPENDENTS = ("postgres",)
_VIEWS_OF = """
    SELECT DISTINCT views.oid::regclass::text
    FROM pg_depend AS depends
    JOIN pg_rewrite AS rules ON rules.oid = depends.objid
    JOIN pg_class AS views ON views.oid = rules.ev_class
    JOIN pg_class AS tables ON tables.oid = depends.refobjid
    JOIN pg_namespace AS schemas ON schemas.oid = tables.relnamespace
    WHERE depends.classid = 'pg_rewrite'::regclass AND depends.refclassid = 'pg_class'::regclass
    AND views.oid <> tables.oid AND schemas.nspname = %s AND tables.relname = ANY(%s)
    ORDER BY 1
"""
_MOST_NAMED = 3
_NUL, _REPLACEMENT = "\0", "\ufffd"

_log = logging.getLogger(__name__)


def prepare(pipeline: dlt.Pipeline, tables: Collection[str]) -> None:
    """Prepare the destination for a merge, given the `tables` that exist.

    Merges become transactions, and missing indexes are created before the first rows are merged.
    """
    merge_in_transactions(pipeline.destination)
    warn_of_slow_format(capabilities())
    if ENROLLMENTS.name in tables:
        keep_in_order(pipeline)


def format_without_rows(caps: DestinationCapabilitiesContext | None) -> str | None:
    """Return the format from which a table without rows can be loaded, None if any will do.

    dlt's ADBC job fails for a Parquet file without rows, and the package stays pending forever.
    """
    supported = (caps.supported_loader_file_formats if caps else None) or []
    return INSERTS if CSV in supported and INSERTS in supported else None


def file_format(caps: DestinationCapabilitiesContext | None, known: dict[str, Any]) -> str | None:
    """Return the format to ask dlt for, for a table that its schema knows as `known`.

    Where dlt would choose CSV, which does not distinguish empty text from null, the fastest other
    format of the destination; elsewhere None, which leaves the choice to dlt. Not Parquet if the
    type of JSON columns depends on the format and the table's were created for another: Parquet
    files could not be loaded into them.
    """
    if not caps or CSV not in (caps.supported_loader_file_formats or []):
        return None
    preferred, supported = _supported(caps, known)
    refused = {CSV}
    if known.get("file_format") != PARQUET and _has_json(known) and _json_depends_on_format(caps):
        refused.add(PARQUET)
    left = [name for name in supported if name not in refused]
    return fastest_format(preferred, left)


def has_json_columns(caps: DestinationCapabilitiesContext | None) -> bool:
    """Tell whether JSON columns can be loaded; if not, JSON is stored as text.

    BigQuery cannot load them from Parquet files, and all files of a table have one format.
    """
    if not caps or not caps.type_mapper or PARQUET not in _supported(caps, {})[1]:
        return True
    column: Any = {"name": "any", "data_type": "json"}
    try:
        caps.get_type_mapper().ensure_supported_type(column, {"name": "any"}, "parquet")
    except TerminalValueError:
        return False
    return True


def warn_of_slow_format(caps: DestinationCapabilitiesContext | None) -> None:
    """Log a warning if only a missing driver prevents loading Parquet."""
    if caps and PARQUET in (caps.supported_loader_file_formats or []):
        preferred, supported = _supported(caps, {})
        if PARQUET not in supported:
            _log.warning(
                "The ADBC driver is missing, so rows are loaded as %s, several times slower:"
                " pip install 'unify-source[postgres]'.",
                preferred,
            )


def storable(caps: DestinationCapabilitiesContext | None, rows: pa.Table) -> pa.Table:
    """Return rows that the destination can store: with U+FFFD if it cannot store U+0000."""
    if not caps or caps.sqlglot_dialect not in _WITHOUT_NUL:
        return rows
    for number, item in enumerate(rows.schema):
        if item.type == TEXT and pc.any(pc.match_substring(rows[number], _NUL)).as_py():
            # For one such subject line, the server would refuse the whole file of rows.
            texts = pc.replace_substring(rows[number], _NUL, _REPLACEMENT)
            rows = rows.set_column(number, item, texts)
    return rows


def refuse_harm(pipeline: dlt.Pipeline, dropped: Collection[str] = ()) -> None:
    """Raise ConfigurationError if a load by dlt would empty a table in use, or fail to drop one."""
    refuse_shared_staging(pipeline)
    refuse_views_of(pipeline, dropped)


def refuse_views_of(pipeline: dlt.Pipeline, dropped: Collection[str]) -> None:
    """Raise ConfigurationError if a view reads a table that the load is going to drop.

    Postgres would refuse that after all rows have been read. DuckDB lets views outlive a table.
    """
    if not dropped or kind_of(pipeline.destination) not in _WITH_DEPENDENTS:
        return
    with pipeline.sql_client() as client:
        schema, _ = place_of(client, ENROLLMENTS.name)
        rows = client.execute_sql(_VIEWS_OF, schema, sorted(dropped)) or []
    views = [name for (name,) in rows]
    if views:
        shown, others = ", ".join(views[:_MOST_NAMED]), len(views) - _MOST_NAMED
        raise ConfigurationError(
            f"This refresh drops tables that views read, which Postgres refuses: {shown}"
            + (f" and {others} more." if others > 0 else "."),
            "Use refresh='drop_data', which empties the tables and keeps them, or drop the views"
            " first; unify-source models creates its own again.",
        )


def keep_in_order(pipeline: dlt.Pipeline, new: Collection[str] = ()) -> None:
    """Create missing indexes and comments of the existing tables, of which some are `new`."""
    _keep_indexed(pipeline)
    keep_described(pipeline, new)


def _keep_indexed(pipeline: dlt.Pipeline) -> None:
    """Create the missing indexes of the existing tables: on keys, and on the owners of rows.

    After the first rows, which is faster than before. Does nothing on destinations that need no
    index, or if the role may load the tables but does not own them.
    """
    if kind_of(pipeline.destination) not in _INDEXED:
        return
    with pipeline.sql_client() as client:
        schema, _ = place_of(client, ENROLLMENTS.name)
        table_rows = client.execute_sql(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", schema
        )
        index_rows = client.execute_sql(
            "SELECT indexname FROM pg_indexes WHERE schemaname = %s", schema
        )
        tables, names = ({name for (name,) in rows or []} for rows in (table_rows, index_rows))
        for table, name, column in _indexes():
            if table not in tables or name in names:
                continue
            where = client.make_qualified_table_name(table)
            try:
                client.execute_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {where} ({column})")
                # Autovacuum has not run yet, and without statistics Postgres guesses how many rows
                # share a key: the next merges might scan the table anyway.
                client.execute_sql(f"ANALYZE {where}")
            except DatabaseTerminalException as error:
                _log.warning("No index on %s of %s: %s", column, table, str(error).strip())


def _indexes() -> Iterator[tuple[str, str, str]]:
    for table in BY_NAME.values():
        for column in _looked_up(table):
            yield table.name, f"{table.name}__{column.strip('_')}", column


def _looked_up(table: Table) -> list[str]:
    return [KEY, table.dies_with] if table.dies_with else [KEY]


def _supported(
    caps: DestinationCapabilitiesContext, known: dict[str, Any]
) -> tuple[Any, list[Any]]:
    preferred, supported = caps.preferred_loader_file_format, caps.supported_loader_file_formats
    if select := caps.loader_file_format_selector:
        preferred, supported = select(
            preferred,
            list(supported or []),
            table_schema={"name": known.get("name", ""), "columns": {}},
        )
    return preferred, list(supported or [])


def _has_json(known: dict[str, Any]) -> bool:
    return any(column.get("data_type") == "json" for column in known.get("columns", {}).values())


def _json_depends_on_format(caps: DestinationCapabilitiesContext) -> bool:
    column: Any = {"name": "any", "data_type": "json"}
    tables: list[Any] = [{"name": "any"}, {"name": "any", "file_format": PARQUET}]
    if not caps.type_mapper:
        return False
    mapper = caps.get_type_mapper()
    return len({mapper.to_destination_type(column, table) for table in tables}) > 1
