"""Reads every page of a closed window, in portions that fit one load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.common.resources import Resource
from unify_source.common.settings.limits import USUAL, Limits
from unify_source.extract.page_queue import PageQueue
from unify_source.extract.portion import Portion
from unify_source.extract.window import Window, begin, joined
from unify_source.extract.workers import Workers

MOST_WIDE_BYTES = 24 << 20
"""The bytes that make rows wide, beyond which a portion begins again with fewer rows."""
# A portion with less than this fraction of that shows that the wide rows are past.
_NARROW_AGAIN = 8
_PAGES = 24


class Reading:
    """The pages of adjoining windows, read by threads that share the work in slices.

    Iterating yields batches of page bodies in the order of arrival, some perhaps twice, while the
    threads read ahead. A page that cannot be read raises its ApiError at once. Only an iteration
    that ends by itself is complete: then every row of the window `covered` was read. That is the
    whole or, once there are `enough` rows, a portion that ends at the boundary of a slice: the
    oldest or, with `newest_first`, the newest. If these rows turn out to be wide, it begins again
    with fewer. Iterate again for the next portion, most of which may have been read by then, or
    call `close`. In the windows `unsettled`, oldest first, changing rows may have hidden others.
    `counted` is kept for the consumer of the pages: the keys that it has seen beyond `covered`.
    `heartbeat` is called at least twice a second; raising there ends the iteration.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        windows: Sequence[Window],
        filters: Parameters,
        *,
        page_size: int,
        workers: int,
        enough: int | None = None,
        newest_first: bool = False,
        limits: Limits = USUAL,
        lookback: timedelta = timedelta(),
        again_from: datetime | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._newest_first = newest_first
        self._usual, self._enough = enough, enough
        self._begin = partial(
            Workers,
            client,
            resource,
            filters,
            workers=workers,
            page_size=page_size,
            newest_first=newest_first,
            limits=limits,
            lookback=lookback,
            again_from=again_from,
            heartbeat=heartbeat,
        )
        self._left = list(windows)
        self._workers = self._begin(self._left, enough=enough)
        self.covered = self._workers.portion.window
        self.unsettled: list[Window] = []
        self.counted: set[str] = set()

    def __iter__(self) -> Iterator[list[bytes]]:
        queue = self._workers.portion.queue
        with closing(self._workers.batches()) as batches:
            for pages in batches:
                yield pages
                # Eight megabytes, which would wait here for those after them.
                del pages
                if fewer := self._fewer(queue):
                    break
            else:
                self._has_covered(self._workers.end_portion())
                return
        self._begin_again(fewer)
        yield from self

    def close(self) -> None:
        """Stop the threads and leave the rest unread."""
        self._workers.close()

    def _fewer(self, queue: PageQueue) -> int | None:
        """Return how many rows are enough if a portion's rows are wide, None if they are not."""
        if not self._enough or queue.wide_bytes <= MOST_WIDE_BYTES:
            return None
        fewer = max(1, queue.rows * MOST_WIDE_BYTES // (2 * queue.wide_bytes))
        # A portion cannot be cut everywhere: beginning again and again would help nobody.
        return fewer if fewer <= self._enough // 2 else None

    def _has_covered(self, portion: Portion) -> None:
        self.covered, self.unsettled = portion.window, joined(portion.unsettled)
        edge = begin(self.covered) if self._newest_first else self.covered.before
        if self._newest_first:
            left = [Window(w.after, min(w.before, edge)) for w in self._left if begin(w) < edge]
        else:
            left = [Window(max(begin(w), edge), w.before) for w in self._left if w.before > edge]
        self._left = left
        if left and self._enough != self._usual and self._is_narrow(portion.queue):
            self._begin_again(self._usual)

    def _is_narrow(self, queue: PageQueue) -> bool:
        # A range with few rows proves nothing.
        is_telling = queue.rows >= (self._enough or 0)
        return is_telling and queue.wide_bytes < MOST_WIDE_BYTES // _NARROW_AGAIN

    def _begin_again(self, enough: int | None) -> None:
        self._workers.close()
        self._enough = enough
        how: dict[str, Any] = {}
        if enough and enough != self._usual:
            # A single worker begins one slice at a time, so that a portion ends soon after it has
            # enough. No list can be cut before it shows its order, which takes some pages. These
            # may grow again: a list in no order of time may begin with its few wide rows.
            fitting = min(self._workers.limit, max(1, enough // _PAGES))
            page_bytes = MOST_WIDE_BYTES // (2 * _PAGES)
            how = {"workers": 1, "fitting": fitting, "page_bytes": page_bytes}
        self._workers = self._begin(self._left, enough=enough, **how)
