"""Feeds many resources from one reading: each batch goes to every selected resource."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Mapping

import pyarrow as pa

Batch = Mapping[str, pa.Table]
"""The rows of one batch, by table."""

Begin = Callable[[frozenset[str]], Generator[Batch, None, None]]


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
    ) -> Generator[pa.Table, None, None]:
        """Yield the rows of one table, in the order of the batches, until the reading ends.

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
    """One reading. The first generator that needs rows pulls the next batch for all.

    dlt alternates between resources, so little more than one batch is pending; it may use threads.
    """

    def __init__(self, begin: Begin, selected: frozenset[str]) -> None:
        self._lock = threading.RLock()
        self._batches = begin(selected)
        self._waiting: dict[str, deque[pa.Table]] = {name: deque() for name in selected}
        self._unopened = set(selected)
        self._open = 0

    def awaits(self, table: str) -> bool:
        """Tell whether a table is to be read here, and has not begun yet."""
        return table in self._unopened

    def rows(self, table: str) -> Generator[pa.Table, None, None]:
        with self._lock:
            self._unopened.discard(table)
            self._open += 1
        try:
            while (rows := self._next(table)) is not None:
                yield rows
        finally:
            with self._lock:
                self._waiting.pop(table, None)
                self._open -= 1
                # The last one ends the reading: nothing else would consume its rows.
                if not self._open:
                    self._batches.close()

    def _next(self, table: str) -> pa.Table | None:
        with self._lock:
            while not self._waiting[table]:
                batch = next(self._batches, None)
                if batch is None:
                    return None
                for name, rows in batch.items():
                    if name in self._waiting:
                        self._waiting[name].append(rows)
            return self._waiting[table].popleft()
