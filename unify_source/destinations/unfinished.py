"""Notes windows and rows in the destination while they are merged, for a run that dies meanwhile.

A process that dies between the merges of two tables leaves one of them newer than the other. A
`sync` reads its own window again, but the window of a backfill, of an interval or of a filtered run
may be any, and so may the rows of a repair. On destinations that merge in transactions only.

The table exists only during a merge. A run by dlt is not there when its load ends: what it noted
stays until the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.accounts import table_of
from unify_source.destinations.databases import has_table, merges_in_transactions
from unify_source.destinations.history import LOADS
from unify_source.extract.window import Window
from unify_source.times import kept_instant, rfc3339

TABLE = "_unify_unfinished"

_ROWS_AT_ONCE = 100


class UnfinishedMerges:
    """The windows and rows of an account that any run may have merged into some tables only."""

    def __init__(self, pipeline: dlt.Pipeline, account: str | None = None) -> None:
        self._table = table_of(TABLE, account)
        self._pipeline = pipeline
        self._can_note = merges_in_transactions(pipeline)
        self._loads: list[str] = []

    def note(self, loads: Iterable[str], window: Window | None, ids: Iterable[str] = ()) -> None:
        """Note that these loads are about to merge a window's rows, and the rows with these ids."""
        if not self._can_note:
            return
        known = [(*_texts(window), None)] if window else []
        rows = [
            (load, *each) for load in loads for each in (*known, *((None, None, i) for i in ids))
        ]
        with self._pipeline.sql_client() as client:
            # The first load creates the dataset. Until it is done, no row can be left in an older
            # version.
            if client.has_dataset():
                self._insert(client, rows)
                self._loads += {load for load, *_ in rows}

    def note_by_dlt(self, load: str, window: Window, *, is_whole: bool) -> None:
        """Note that a run by dlt is about to merge a window, of all rows or of some.

        What has been merged since it was noted is forgotten, and so is what lies in the window if
        all of its rows are merged.
        """
        if not self._can_note:
            return
        after, before = _texts(window)
        with self._pipeline.sql_client() as client:
            if not client.has_dataset():
                return
            self._insert(client, [(load, after, before, None)])
            table, loads = map(client.make_qualified_table_name, (self._table, LOADS))
            done = f"load_id IN (SELECT load_id FROM {loads} WHERE status = 0)"  # noqa: S608
            within = "before <= %s" + " AND after >= %s" * bool(after) if is_whole else "1 = 0"
            values = [before, *filter(None, [after])] if is_whole else []
            delete = f"DELETE FROM {table} WHERE load_id <> %s AND ({done} OR {within})"  # noqa: S608
            # A dataset may have been created for the first load, and holds no loads yet.
            with suppress(DatabaseUndefinedRelation):
                client.execute_sql(delete, load, *values)

    def _insert(self, client: Any, rows: Sequence[tuple[str | None, ...]]) -> None:
        table = client.make_qualified_table_name(self._table)
        columns = "load_id VARCHAR(64), after VARCHAR(64), before VARCHAR(64), row_id VARCHAR(4096)"
        # Times as text, so that a window is read back unchanged, however a database treats time
        # zones.
        client.execute_sql(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            marks = ", ".join(["(%s, %s, %s, %s)"] * len(some))
            insert = f"INSERT INTO {table} VALUES {marks}"  # noqa: S608 - our own names
            client.execute_sql(insert, *chain.from_iterable(some))

    def forget(self) -> None:
        """Forget the windows and rows that were noted or found: all of them have been merged.

        Those that another run has noted since remain: it may have died while this one was waiting.
        """
        if not self._loads:
            return
        with self._pipeline.sql_client() as client:
            table = client.make_qualified_table_name(self._table)
            marks = ", ".join(["%s"] * len(self._loads))
            client.execute_sql(f"DELETE FROM {table} WHERE load_id IN ({marks})", *self._loads)  # noqa: S608 - our own names
            if not client.execute_sql(f"SELECT load_id FROM {table}"):  # noqa: S608
                client.execute_sql(f"DROP TABLE {table}")
        self._loads.clear()

    def half_merged(self) -> tuple[list[Window], list[str]]:
        """Return the windows and the ids of rows that have to be merged again."""
        if not self._can_note:
            return [], []
        with self._pipeline.sql_client() as client:
            if not has_table(client, self._table):
                return [], []
            table, loads = map(client.make_qualified_table_name, (self._table, LOADS))
            # dlt writes a load's row with status 0 last, once every table has been merged. A load
            # without such a row may have ended between any two tables.
            done = f"load_id IN (SELECT load_id FROM {loads} WHERE status = 0)"  # noqa: S608
            if not has_table(client, LOADS):
                # A first load died before dlt created its tables, so it has merged nothing.
                done = "1 = 1"
            query = f"SELECT load_id, after, before, row_id, {done} FROM {table}"  # noqa: S608
            rows: Any = client.execute_sql(query) or []
        self._loads += {load for load, *_ in rows}
        left = {tuple(row) for _, *row, is_done in rows if not is_done}
        windows = [
            Window(kept_instant(after) if after else None, kept_instant(to))
            for after, to, _ in sorted(left, key=lambda row: row[0] or "")
            if to
        ]
        return windows, sorted(row_id for *_, row_id in left if row_id)


def _texts(window: Window) -> tuple[str | None, str]:
    return rfc3339(window.after) if window.after else None, rfc3339(window.before)
