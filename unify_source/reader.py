"""Reads every page of a closed window, several at a time, in no promised order."""

from __future__ import annotations

import queue
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from unify_source.client import Client, Parameters
from unify_source.errors import BrokenPage
from unify_source.oddities import parse_instant
from unify_source.window import Window, slices

_UPDATED_AT = re.compile(rb'"updated_at"\s*:\s*"([^"\\]{1,40})"')
_LOOKED_AT = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def page_bodies(
    client: Client,
    windows: Sequence[Window],
    filters: Parameters,
    *,
    page_size: int,
    workers: int,
) -> Iterator[bytes]:
    """Yield the body of every page of the windows, some perhaps twice, in the order of arrival.

    All have been read only when the iterator ends by itself. Reads on in `workers` threads, a few
    pages ahead. Raises an ApiError as soon as one page cannot be had.
    """
    reading = _Reading(client, windows, [*filters, ("limit", str(page_size))], workers)
    try:
        yield from reading.bodies()
    finally:
        reading.stop()


def first_instant(client: Client, before: datetime) -> datetime | None:
    """Return an instant before which, at the time of asking, there was no row; None if none found.

    Goes back in doubling steps from `before`, one request of one row each: about a dozen. A hint of
    where to cut, never a bound of what is read.
    """
    back = timedelta(days=1)
    while back < timedelta(days=365 * 40):
        window = Window(None, before - back)
        body, following = client.page([("limit", "1"), *window.parameters()])
        if following is None and not _UPDATED_AT.search(body):
            return window.before
        back *= 2
    return None


class _Reading:
    """Slices of a window, handed to threads; a thread with nothing to do lets others cut theirs."""

    def __init__(
        self, client: Client, windows: Sequence[Window], parameters: Parameters, workers: int
    ) -> None:
        self._client = client
        self._parameters = list(parameters)
        self._workers = workers
        self._slices = deque(windows)
        self._idle = 0
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._arrived: queue.Queue[bytes | BaseException | None] = queue.Queue(4 * workers)

    def bodies(self) -> Iterator[bytes]:
        for number in range(self._workers):
            threading.Thread(target=self._work, name=f"page-{number}", daemon=True).start()
        left = self._workers
        while left:
            item = self._arrived.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item

    def stop(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (window := self._next_slice()) is not None:
                self._read(window)
            self._hand_over(None)
        except Exception as error:  # noqa: BLE001 - raised again where the pages are read
            self._hand_over(error)

    def _next_slice(self) -> Window | None:
        with self._changed:
            self._idle += 1
            while not self._slices and self._idle < self._workers and not self._stopped.is_set():
                self._changed.wait()
            if self._slices and not self._stopped.is_set():
                self._idle -= 1
                return self._slices.popleft()
            self._changed.notify_all()
            return None

    def _read(self, window: Window) -> None:
        cursor: str | None = None
        followed: set[str] = set()
        seen: list[datetime] = []
        pages = 0
        while not self._stopped.is_set():
            body, following = self._client.page(self._asking(window, cursor))
            self._hand_over(body)
            pages += 1
            if following is None:
                return
            if following in followed:
                raise _repeats(window)
            followed.add(following)
            cursor = following
            if pages <= _LOOKED_AT[-1]:
                seen += _instants(body)
            if pages in _LOOKED_AT and self._cut(window, seen, pages):
                return

    def _asking(self, window: Window, cursor: str | None) -> Parameters:
        asked = [*self._parameters, *window.parameters()]
        return [*asked, ("cursor", cursor)] if cursor else asked

    def _cut(self, window: Window, seen: list[datetime], pages: int) -> bool:
        with self._changed:
            if not self._idle or self._slices:
                return False
            parts = slices(window, seen, pages, self._workers)
            if not parts or len(parts) == 1:
                return False
            self._slices.extend(parts)
            self._changed.notify_all()
            return True

    def _hand_over(self, item: bytes | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._arrived.put(item, timeout=0.5)
            except queue.Full:
                continue
        return None


def _instants(body: bytes) -> list[datetime]:
    texts = (text.decode("ascii", "replace") for text in _UPDATED_AT.findall(body))
    return [instant for instant in map(parse_instant, texts) if instant]


def _repeats(window: Window) -> BrokenPage:
    return BrokenPage(
        "The API sent the same next_cursor twice, so the list would never end"
        f" (updated_before {window.before.isoformat()}).",
        "Nothing is lost: run it again. If it stays so, please report it to Unify.",
    )
