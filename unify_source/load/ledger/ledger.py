"""Records runs in a dataset's ledger when they begin, progress and end.

Databases with transactions are written at once, in a statement or two, so that the ledger also has
runs that were killed or had nothing to load. Elsewhere the row is loaded with the run's last rows,
and that of a run that was killed, which it left in its lease, with those of the next run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.api.client import Client
from unify_source.common.dlt_seam import emptied_tables, running_pipeline
from unify_source.common.errors.redaction import redacted
from unify_source.common.resources import KEY, LEDGER
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.destinations.databases import merges_in_transactions
from unify_source.destinations.locks.turns import opened_file
from unify_source.load.configuration.dlt_errors import meaning
from unify_source.load.ledger.apart import append_apart
from unify_source.load.ledger.entry import (
    BY_DLT,
    FAILED,
    KILLED,
    REFRESH,
    RUNNING,
    SUCCEEDED,
    WAITING,
    Entry,
)
from unify_source.load.ledger.reading import last_runs

_log = logging.getLogger(__name__)


class Ledger:
    """One run's row in the ledger of its dataset. If it cannot be written, the run does not fail.

    `is_loaded` if the row is loaded with those of the last window.
    """

    def __init__(self, pipeline: dlt.Pipeline, table_format: str, entry: Entry) -> None:
        self._pipeline, self._table_format, self._entry = pipeline, table_format, entry
        self.is_loaded = not merges_in_transactions(pipeline)
        self._is_open = self._has_begun = self._is_held = False
        self._client: Any = None
        self._filled: dict[str, str] | None = None

    @contextmanager
    def open(self, lock_timeout: float | str = 0) -> Iterator[None]:
        """Record how the run ends, if it has begun: one that does not get the lock never does."""
        self._is_open = True
        try:
            yield
        except BaseException as error:
            if self._has_begun:
                self._entry.end(FAILED, meaning(error))
                self._add(0)
            raise
        if self._has_begun and self._entry.outcome != SUCCEEDED:
            self._entry.end(SUCCEEDED)
            self._add(lock_timeout)

    def begin(self, *, is_held: bool = True) -> None:
        """Record that the run begins. If it holds the dataset, any other running one has died."""
        self._has_begun, self._is_held = self._is_open, is_held
        if self._has_begun and is_held:
            self._write(begins=True)

    def go_on(self, *, waiting: bool = False) -> None:
        """Record the run's progress, and whether it is about to let another run in."""
        if self._has_begun:
            self._entry.outcome = WAITING if waiting else RUNNING
            self._write()

    def _add(self, lock_timeout: float | str) -> None:
        with _if_possible(self._entry):
            if self.is_loaded:
                append_apart(
                    self._pipeline,
                    self._table_format,
                    lock_timeout,
                    LEDGER.name,
                    self._entry.rows(),
                )
            elif self._is_held:
                self._write()
            else:
                with opened_file(self._pipeline, lock_timeout):
                    self._write()

    def _write(self, *, begins: bool = False) -> None:
        if self.is_loaded:
            self._take_in_killed()
            return
        with _if_possible(self._entry):
            # Kept, because for each new one dlt resolves its whole configuration.
            self._client = self._client or self._pipeline.sql_client()
            with self._client as client:
                self._filled = _put(client, self._entry, self._filled, begins=begins)

    def _take_in_killed(self) -> None:
        entry = self._entry
        with _if_possible(entry):
            # A run may die once its row is loaded, and before it gives up its lease.
            runs = last_runs(self._pipeline, None).rows if entry.inherited else []
            known = {run[KEY] for run in runs}
            entry.killed += [row for row in entry.inherited if row[KEY] not in known]
            entry.inherited.clear()


@contextmanager
def begun_by_dlt(settings: Settings, client: Client) -> Iterator[Entry]:
    """Record that `pipeline.run` begins.

    The dataset stays open in the body, because only the first connection to a DuckDB file is slow.
    """
    pipeline = running_pipeline()
    kind = REFRESH if emptied_tables() else BY_DLT
    entry = Entry(kind, pipeline.pipeline_name, settings)
    entry.asks_with(client)
    with ExitStack() as opened:
        if merges_in_transactions(pipeline):
            database: Any = pipeline.sql_client()
            opened.enter_context(database)
            with _if_possible(entry):
                _put(database, entry, begins=True)
        yield entry


def noted_at_once(entry: Entry) -> bool:
    """Record a run by dlt that has nothing to load, and tell whether that was possible.

    Loading only this row would take longer than the whole run.
    """
    pipeline = running_pipeline()
    if not merges_in_transactions(pipeline):
        return False
    with suppress(Exception), pipeline.sql_client() as client:
        _put(client, entry, begins=False)
        return True
    return False


def _put(
    client: Any, entry: Entry, filled: dict[str, str] | None = None, *, begins: bool
) -> dict[str, str] | None:
    """Write a run's row; return the values of columns that dlt fills, for its next row."""
    table, row = client.make_qualified_table_name(LEDGER.name), entry.row()
    if entry.account:
        row[ACCOUNT] = entry.account
    # Before the first load there is no such table.
    unmade = nullcontext() if entry.outcome == SUCCEEDED else suppress(DatabaseUndefinedRelation)
    with unmade, client.begin_transaction():
        if begins:
            # A run by dlt takes no lock and may be alive: it replaces its row when it ends.
            died = f"UPDATE {table} SET outcome = %s WHERE outcome = %s"  # noqa: S608
            client.execute_sql(died, KILLED, RUNNING)
        client.execute_sql(f"DELETE FROM {table} WHERE {KEY} = %s", row[KEY])  # noqa: S608
        # A run writes its row again after each window.
        filled = _filled_by_dlt(client, table, entry) if filled is None else filled
        row |= filled
        names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        insert = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our own names
        client.execute_sql(insert, *row.values())
    return filled


def _filled_by_dlt(client: Any, table: str, entry: Entry) -> dict[str, str]:
    """Return values for columns that dlt fills in every row, and only if it is told to."""
    values = {"_dlt_id": entry.id, "_dlt_load_id": ""}
    with client.execute_query(f"SELECT * FROM {table} WHERE 1 = 0") as cursor:  # noqa: S608
        names = {column[0] for column in cursor.description}
    return {name: value for name, value in values.items() if name in names}


@contextmanager
def _if_possible(entry: Entry) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the data matters more, whatever it was
        # If the run itself failed, its own error says enough.
        level = logging.INFO if entry.outcome == FAILED else logging.WARNING
        _log.log(level, "The run is not in %s: %s", LEDGER.name, redacted(str(error)))
