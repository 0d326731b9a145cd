"""Feeds many resources from one reading: each batch goes to every selected resource."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator

import pyarrow as pa

from unify_source.load.extraction.target import Tables

Begin = Callable[[frozenset[str]], Generator[Tables, None, None]]


class FanOut:
    """Evaluates a reading once a run, and feeds one generator for each table from it.

    `begin` is called with the names of the selected tables, before anything is read, and returns
    the batches.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._run: object = None
        self._evaluation: _Evaluation | None = None

    def rows(
        self, table: str, selected: Collection[str], run: object
    ) -> Generator[pa.Table | None, None, None]:
        """Yield the rows of one table, in the order of the batches, until the reading ends.

        None asks dlt to go on to the next resource: other tables have rows that nobody took yet.
        The tables of one `run` share a reading. A table that has already begun starts another.
        """
        with self._lock:
            evaluation = self._evaluation
            # A source can be run again, as a whole or with another selection, after any failure.
            if (
                run is None
                or run is not self._run
                or not evaluation
                or not evaluation.awaits(table)
            ):
                evaluation = _Evaluation(self._begin, frozenset(selected))
                self._run, self._evaluation = run, evaluation
        yield from evaluation.rows(table)


class _Evaluation:
    """One reading. Once the rows of a batch are taken, the next generator pulls another for all.

    dlt alternates between resources, so little more than one batch is pending; it may use threads.
    """

    def __init__(self, begin: Begin, selected: frozenset[str]) -> None:
        self._lock = threading.RLock()
        self._batches = begin(selected)
        self._waiting: dict[str, deque[pa.Table]] = {name: deque() for name in selected}
        self._unopened = set(selected)
        self._open = self._taken = 0

    def awaits(self, table: str) -> bool:
        """Tell whether a table is part of this reading, and has not begun yet."""
        return table in self._unopened

    def rows(self, table: str) -> Generator[pa.Table | None, None, None]:
        with self._lock:
            self._unopened.discard(table)
            self._open += 1
        paused_at = -1
        try:
            while self._fill(table, paused_at):
                with self._lock:
                    waiting = self._waiting[table]
                    ready = waiting.popleft() if waiting else None
                    self._taken += ready is not None
                    paused_at = self._taken if ready is None else -1
                yield ready
                del ready
        finally:
            with self._lock:
                self._waiting.pop(table, None)
                self._open -= 1
                # The last one ends the reading: nothing else would consume its rows.
                if not self._open:
                    self._batches.close()

    def _fill(self, table: str, paused_at: int) -> bool:
        """Read until this table has rows or others should go first; False at the end.

        Others go first while they have rows, unless none was taken since this table last paused.
        """
        with self._lock:
            while not self._waiting[table]:
                if paused_at != self._taken and any(self._waiting.values()):
                    return True
                if not self._pull():
                    return False
                paused_at = -1
            return True

    def _pull(self) -> bool:
        """Read the next batch; False at the end."""
        batch = next(self._batches, None)
        for name, rows in (batch or {}).items():
            if name in self._waiting:
                self._waiting[name].append(rows)
        return batch is not None
