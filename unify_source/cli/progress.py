"""The progress of a run: one live line on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

_TICK_SECONDS = 0.2
_PLAIN_SECONDS = 5.0
_ERASE = "\r\x1b[K"


class Progress:
    """Counts rows and windows of one run, and shows them with the elapsed time.

    It draws from a thread of its own, so the clock also runs while a server is silent. It never
    hides the cursor: a run that is killed leaves the terminal as it was.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        is_live: bool,
        is_silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._clock = stream, clock
        self._is_live = is_live
        self._is_silent = is_silent
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._shown = ""
        self._reset("")

    def _reset(self, doing: str) -> None:
        self._doing = doing
        self._rows = self._windows = self._expected = 0
        self._started = self._clock()
        self._total = timedelta()
        self._marks: list[tuple[float, timedelta]] = []

    def begin(self, doing: str) -> None:
        """Start the clock and count from zero; `doing` is shown at once on a terminal."""
        # A thread for each run: that of the last one would print its next line in the middle of
        # this one, which has nothing to tell yet.
        self._ended.set()
        with self._lock:
            self._reset(doing)
            self._draw_live()
        if not self._is_silent:
            self._ended = threading.Event()
            threading.Thread(target=self._keep_showing, args=[self._ended], daemon=True).start()

    def now(self, doing: str) -> None:
        """Show what the run does now, without touching the clock and the counts."""
        self._doing = doing

    def range_known(self, total: timedelta) -> None:
        """Set the range of `updated_at` that the whole run loads, so a share can be shown."""
        self._total = total

    def rows_expected(self, rows: int) -> None:
        """Set about how many rows the whole run reads, so a share of them can be shown."""
        self._expected = rows

    def add(self, rows: int) -> None:
        """Count rows that were read."""
        self._rows += rows

    def window_done(self, left: timedelta) -> None:
        """Count a window that was loaded; `left` is the range that remains, zero if unknown."""
        self._windows += 1
        self._marks.append((self._clock(), left))

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the live line while something else is printed."""
        with self._lock:
            self._erase()
            yield

    def close(self) -> None:
        """Erase the live line for good."""
        self._ended.set()
        with self._lock:
            self._erase()

    def text(self) -> str:
        """Return the line: time elapsed, activity, rows, speed, windows, share, time left."""
        # Whole seconds, so that the line changes only once a second or with the facts.
        seconds = int(self._clock() - self._started)
        facts = [f"{_clock(seconds)} {self._doing}"]
        if self._rows:
            facts.append(f"{self._rows:,} rows read, {self._rows / max(seconds, 1):,.0f} rows/s")
        if self._windows:
            facts.append(f"{self._windows:,} window{'s' if self._windows > 1 else ''} done")
        return ", ".join([*facts, *self._share(), *self._time_left()])

    def _share(self) -> list[str]:
        if self._expected:
            return [f"{min(self._rows / self._expected, 1):.0%} of the rows"]
        left = self._marks[-1][1] if self._marks else self._total
        return [f"{1 - left / self._total:.0%} of the range"] if left and self._total else []

    def _time_left(self) -> list[str]:
        if self._rows and self._expected:
            elapsed = self._clock() - self._started
            return _about(elapsed * (self._expected - self._rows) / self._rows)
        if not self._marks:
            return []
        # From the end of the first window on: a range may begin years before the first row.
        (first_at, first_left), (at, left) = self._marks[0], self._marks[-1]
        if not timedelta() < left < first_left:
            return []
        pace = (at - first_at) / (first_left - left).total_seconds()
        seconds = pace * left.total_seconds() - (self._clock() - at)
        return _about(seconds)

    def _keep_showing(self, ended: threading.Event) -> None:
        while not ended.wait(_TICK_SECONDS if self._is_live else _PLAIN_SECONDS):
            with self._lock:
                if ended.is_set():
                    return
                if self._is_live:
                    self._draw_live()
                else:
                    self._write(self.text() + "\n")

    def _draw_live(self) -> None:
        if not self._is_live or self._is_silent:
            return
        # One column short: a line that fills the last column wraps, and could not be erased.
        text = self.text()[: terminal_width(self._stream) - 1]
        if text != self._shown:
            # Back to the start, so that what others print, such as dlt on Ctrl-C, replaces it.
            self._write(f"{_ERASE}{text}\r")
            self._shown = text

    def _erase(self) -> None:
        if self._shown:
            self._write(_ERASE)
            self._shown = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def terminal_width(stream: TextIO) -> int:
    """Return how many columns a terminal has, 80 if that is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _about(seconds: float) -> list[str]:
    return [f"about {_clock(seconds)} left"] if seconds >= 1 else []


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
