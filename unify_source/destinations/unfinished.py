"""Windows whose merge began and did not end: noted in the destination, for the next run.

A process that dies between the merges of two tables leaves one of them newer than the other. A
`sync` reads its own window again; the window of a backfill or of a filtered run lies anywhere. The
table exists only while a window is merged, on destinations that merge in transactions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.dlt_seam import kind_of
from unify_source.extract.window import Window
from unify_source.times import kept_instant, rfc3339

TABLE = "_unify_unfinished"

_KINDS = ("duckdb", "motherduck", "postgres", "redshift")


def merges_in_transactions(pipeline: dlt.Pipeline) -> bool:
    """Tell whether a pipeline's destination is a database whose SQL and transactions are known."""
    return kind_of(pipeline.destination) in _KINDS


class UnfinishedMerges:
    """The windows of a dataset whose merge may have ended half way, from whichever run."""

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self._pipeline = pipeline
        self._can_note = merges_in_transactions(pipeline)
        self._loads: list[str] = []

    def note(self, loads: Iterable[str], window: Window) -> None:
        """Note that these loads are about to merge the rows of a window."""
        if not self._can_note:
            return
        with self._pipeline.sql_client() as client:
            # The first load makes the dataset. Until it is done there is no older version of any
            # row to be left with.
            if not client.has_dataset():
                return
            table = client.make_qualified_table_name(TABLE)
            columns = "load_id VARCHAR(64), after VARCHAR(64), before VARCHAR(64)"
            # Texts, for a window is read back as it was written, whatever a database makes of time
            # zones.
            client.execute_sql(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            after = rfc3339(window.after) if window.after else None
            for load in loads:
                insert = f"INSERT INTO {table} VALUES (%s, %s, %s)"  # noqa: S608 - our own names
                client.execute_sql(insert, load, after, rfc3339(window.before))
                self._loads.append(load)

    def forget(self) -> None:
        """Forget what was noted and what was found: every window of both has been merged.

        What another run has noted since stays, for it may have died while this one gave way.
        """
        if not self._loads:
            return
        with self._pipeline.sql_client() as client:
            table = client.make_qualified_table_name(TABLE)
            marks = ", ".join(["%s"] * len(self._loads))
            client.execute_sql(f"DELETE FROM {table} WHERE load_id IN ({marks})", *self._loads)  # noqa: S608 - our own names
            if not client.execute_sql(f"SELECT load_id FROM {table}"):  # noqa: S608
                client.execute_sql(f"DROP TABLE {table}")
        self._loads.clear()

    def windows(self) -> list[Window]:
        """Return the windows that wait to be merged again."""
        if not self._can_note:
            return []
        with self._pipeline.sql_client() as client:
            table, loads = map(client.make_qualified_table_name, (TABLE, "_dlt_loads"))
            # dlt writes a load's row with status 0 last, when every table has been merged. A load
            # without one may have ended between any two tables.
            query = (
                f"SELECT load_id, after, before, load_id IN"  # noqa: S608 - our own names
                f" (SELECT load_id FROM {loads} WHERE status = 0) FROM {table}"
            )
            try:
                rows: Any = client.execute_sql(query) or []
            except DatabaseUndefinedRelation:
                return []
        self._loads += [load for load, *_ in rows]
        half_merged = {(after, to) for _, after, to, is_done in rows if not is_done}
        return [
            Window(kept_instant(after) if after else None, kept_instant(to))
            for after, to in sorted(half_merged, key=lambda ends: ends[0] or "")
        ]
