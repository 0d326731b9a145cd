"""One reading, many resources: each batch of tables goes to every resource that was selected."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping

import pyarrow as pa

Batch = Mapping[str, pa.Table]
"""The rows of one batch, by table."""


class FanOut:
    """Evaluates a reading once, and lets one generator for each table take its rows from it.

    `begin` gets the names of the tables that are selected, before anything is read, and returns
    the batches. Whichever generator runs dry first pulls the next batch for all. dlt takes turns
    between resources, so that hardly more than one batch waits; generators may run in threads.
    """

    def __init__(self, begin: Callable[[frozenset[str]], Iterator[Batch]]) -> None:
        self._begin = begin
        self._lock = threading.RLock()
        self._batches: Iterator[Batch] | None = None
        self._waiting: dict[str, deque[pa.Table]] = {}
        self._unopened: set[str] = set()
        self._open = 0

    def rows(self, table: str, selected: Collection[str]) -> Generator[pa.Table, None, None]:
        """Yield the rows of one table, in the order of the batches, until the reading ends."""
        with self._lock:
            self._enter(table, frozenset(selected))
        try:
            while (rows := self._next(table)) is not None:
                yield rows
        finally:
            with self._lock:
                self._leave(table)

    def _enter(self, table: str, selected: frozenset[str]) -> None:
        if table not in self._unopened:
            # A source can be run, or iterated, again.
            self.close()
            self._waiting = {name: deque() for name in selected}
            self._unopened = set(selected)
            self._batches = self._begin(selected)
        self._unopened.discard(table)
        self._open += 1

    def _leave(self, table: str) -> None:
        self._waiting.pop(table, None)
        self._open -= 1
        # dlt begins its generators one by one: an empty table must not end the reading for one that
        # has yet to begin.
        if not self._open and not self._unopened:
            self.close()

    def _next(self, table: str) -> pa.Table | None:
        with self._lock:
            while not self._waiting[table]:
                batch = next(self._batches or iter(()), None)
                if batch is None:
                    return None
                for name, rows in batch.items():
                    # A table that is not selected, or that ended early, would pile up rows that
                    # nobody takes.
                    if name in self._waiting:
                        self._waiting[name].append(rows)
            return self._waiting[table].popleft()

    def close(self) -> None:
        """End the reading, wherever it is."""
        batches, self._batches = self._batches, None
        if isinstance(batches, Generator):
            batches.close()
        self._waiting, self._unopened, self._open = {}, set(), 0
