"""A run's row in the ledger, filled in as the run goes on. Pure, except for the clock."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any, Protocol
from uuid import uuid4

import dlt
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.api.client import Client
from unify_source.common.resources import (
    BY_NAME,
    DELETED,
    INSTANT,
    KEY,
    LEDGER,
    MAIN_LIST,
    QUARANTINE,
    Column,
)
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.times import kept_instant, rfc3339
from unify_source.extract.window import Window
from unify_source.flatten.tables import with_account
from unify_source.load.state.cursors import Cursors
from unify_source.load.state.late import Late

SYNC, BACKFILL, VERIFY, REPAIR = "sync", "backfill", "verify", "repair"
BY_DLT, REFRESH = "dlt", "refresh"
RUNNING, WAITING, SUCCEEDED, FAILED, KILLED = (
    "running",
    "waiting",
    "succeeded",
    "failed",
    "killed",
)

_CONNECTOR = version("unify-source")
_MAIN = MAIN_LIST.parts[0].table.name


class Read(Protocol):
    """What a reading reports once it has ended."""

    window: Window | None
    covered: Window | None
    cursors: Cursors | None
    late: Late | None
    rows: int


class Entry:
    """What one run has done so far.

    Rows and windows count once they are committed: those of a failed window are read again. It has
    no personal data: only numbers, instants, and the type of an error, never its text.
    """

    def __init__(self, kind: str, pipeline: str, settings: Settings) -> None:
        self.id, self.account = uuid4().hex, settings.account
        self.kind, self._pipeline, self._lookback = kind, pipeline, settings.lookback
        self.outcome = RUNNING
        self._verdict: str | None = None
        self._differences: int | None = None
        self._error: str | None = None
        self._started_at = datetime.now(timezone.utc)
        self._finished_at: datetime | None = None
        # Not the difference of two times: the clock may be adjusted meanwhile.
        self._started = time.monotonic()
        self._clients: list[Client] = []
        self._counted: Counter[str] = Counter()
        self._read: Read | None = None
        self._rows: Counter[str] = Counter()
        self._windows: list[Window] = []
        self._cursors: list[datetime | None] = []
        self._late: Late | None = None
        self.inherited: list[dict[str, Any]] = []
        """Rows of runs that died, which may have been loaded before they did."""
        self.killed: list[dict[str, Any]] = []
        """Those that were not."""

    @property
    def has_rows(self) -> bool:
        """Whether the run has written any row."""
        return any(self._rows.values())

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._started

    def asks_with(self, client: Client) -> None:
        """Count the requests of a client in the run's."""
        self._clients.append(client)

    def count(self, tables: Mapping[str, pa.Table]) -> None:
        """Count the rows of a batch, except those marked deleted."""
        for name, rows in tables.items():
            self._counted[name] += written(rows)

    def note(self, read: Read) -> None:
        """Note a reading that has ended but is not committed yet."""
        self._read = read

    def commit(self) -> None:
        """Count everything counted and noted so far as loaded."""
        read, self._read = self._read, None
        if read and _MAIN in self._counted:
            # While rows change, most are read twice: the reading counts each key once.
            self._counted[_MAIN] = read.rows
        self._rows.update(self._counted)
        self._counted.clear()
        if read and read.cursors and read.window:
            self._windows.append(read.covered or read.window)
            self._cursors += [read.cursors.oldest, read.cursors.newest]
            self._late = self._late or read.late

    def compare(self, window: Window | None, verdict: str, differences: int) -> None:
        """Note the verdict of a comparison with the API, and the window that it compared."""
        self._windows = [window] if window else []
        self._verdict, self._differences = verdict, differences

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """Note how the run ended."""
        self.outcome = outcome
        self._error = type(error).__name__ if error else None
        self._finished_at = datetime.now(timezone.utc)

    @property
    def rows_by_table(self) -> dict[str, int]:
        """How many rows the run has written, by table, without tables that it did not write."""
        return {name: self._rows[name] for name in BY_NAME if self._rows[name]}

    def row(self) -> dict[str, Any]:
        """Return the row, by column."""
        after = [window.after for window in self._windows]
        values: dict[str, Any] = {
            KEY: self.id,
            "kind": self.kind,
            "pipeline": self._pipeline,
            "outcome": self.outcome,
            "error": self._error,
            "started_at": self._started_at,
            "finished_at": self._finished_at,
            "seconds": round(self.seconds),
            "window_from": None if None in after else min(filter(None, after), default=None),
            "window_to": max((window.before for window in self._windows), default=None),
            "cursor_before": self._cursors[0] if self._cursors else None,
            "cursor_after": self._cursors[-1] if self._cursors else None,
            "rows_loaded": sum(self._rows.values()),
            "rows_by_table": json.dumps(self.rows_by_table),
            "requests": sum(client.requests for client in self._clients),
            "retries": sum(client.retries for client in self._clients),
            "rate_limited": sum(client.rate_limited for client in self._clients),
            "quarantined": self._rows[QUARANTINE.name],
            "late_rows": self._late.rows if self._late else None,
            "latest_late_seconds": self._late.seconds if self._late else None,
            "lookback_seconds": round(self._lookback.total_seconds()),
            "verdict": self._verdict,
            "differences": self._differences,
            "connector_version": _CONNECTOR,
            "dlt_version": dlt.__version__,
        }
        return {column.name: values[column.name] for column in LEDGER.columns}

    def rows(self) -> pa.Table:
        """Return the row as an Arrow table, and the rows of killed runs of any account."""
        schema = with_account(LEDGER.schema().empty_table(), self.account).schema
        own = {**self.row(), ACCOUNT: self.account}
        return pa.Table.from_pylist([own, *self.killed], schema=schema)

    def inherit(self, texts: list[str]) -> str:
        """Take over the rows that runs left when they died; return what this one would leave."""
        # A run that died as it took over has left the same rows as the one before it.
        rows = {row[KEY]: row for text in texts for row in _rows_in(text)}
        known = {row[KEY] for row in (*self.inherited, *self.killed)}
        # Before the first load, nothing refuses a run with an account after one without.
        alike = [row for row in rows.values() if bool(row[ACCOUNT]) == bool(self.account)]
        self.inherited += [row for row in alike if row[KEY] not in known]
        left = [{**self.row(), ACCOUNT: self.account}, *self.inherited, *self.killed]
        return json.dumps(left, default=rfc3339)


def written(rows: pa.Table) -> int:
    """Return how many rows of a table stay, without those that are marked deleted."""
    marks = DELETED in rows.schema.names
    return len(rows) - int(pc.sum(rows[DELETED]).as_py() or 0) if marks else len(rows)


def _rows_in(text: str) -> list[dict[str, Any]]:
    try:
        return [
            {column.name: _value(column, row) for column in LEDGER.columns}
            | {ACCOUNT: row[ACCOUNT], "outcome": KILLED}
            for row in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError):
        # Another version's, or incomplete.
        return []


def _value(column: Column, row: Mapping[str, Any]) -> Any:
    value = row[column.name]
    return kept_instant(value) if value and column.type == INSTANT else value
