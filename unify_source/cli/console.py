"""What a person or a program sees: sentences or one JSON object, and progress while work lasts."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unify_source.errors import UnifyError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_EVERY_SECONDS = 5.0


class Screen:
    """Prints results on standard output, all else on standard error.

    With `as_json` standard output gets one JSON object and nothing else; `quiet` leaves out
    everything but results and errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @cached_property
    def _out(self) -> Console:
        return _console(stderr=False)

    @cached_property
    def _err(self) -> Console:
        return _console(stderr=True)

    def result(self, data: dict[str, Any], lines: list[str]) -> None:
        """Print a result: as JSON, or as sentences."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, default=str) + "\n")
        elif not self.quiet:
            for line in lines:
                self._out.print(line, markup=False)

    def note(self, text: str) -> None:
        """Say something along the way."""
        if not self.quiet:
            (self._err if self.as_json else self._out).print(text, markup=False)

    def warn(self, text: str) -> None:
        """Say on standard error what must not be missed, also when asked to be quiet."""
        self._err.print(text, markup=False)

    def table(self, title: str, headers: list[str], rows: list[list[str]]) -> None:
        """Show a small table; numbers stand on the right."""
        if self.quiet or self.as_json:
            return
        from rich.table import Table

        grid = Table(title=title, title_justify="left", title_style="bold")
        for index, header in enumerate(headers):
            numeric = all(row[index].replace(",", "").isdigit() for row in rows)
            grid.add_column(header, justify="right" if numeric else "left")
        for row in rows:
            grid.add_row(*row)
        self._out.print(grid)

    def error(self, error: UnifyError) -> None:
        """Print what happened and what to do next."""
        if self.as_json:
            said = {"error": error.what, "next_step": error.next_step, "exit_code": error.exit_code}
            sys.stdout.write(json.dumps(said) + "\n")
        self._err.print(f"Error: {error.what}", markup=False, style="red")
        self._err.print(error.next_step, markup=False)

    def progress(self) -> RowProgress:
        """Return a counter of rows that shows itself while work lasts."""
        return RowProgress(None if self.quiet else self._err)


def _console(*, stderr: bool) -> Console:
    # Not before something is said: a quiet run starts sooner without.
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


class RowProgress:
    """Counts rows: a live line on a terminal, else a plain line every few seconds.

    Without a console it is silent.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._rows = 0
        self._started = self._told = time.monotonic()
        self._windows: list[tuple[float, timedelta]] = []
        self._bar: Progress | None = None

    def add(self, rows: int) -> None:
        """Count rows that were read."""
        self._rows += rows
        if self._console is None:
            return
        if self._console.is_terminal:
            self._show()
        elif time.monotonic() - self._told >= _EVERY_SECONDS:
            self._told = time.monotonic()
            self._console.print(self._text(), markup=False)

    def window_done(self, left: timedelta) -> None:
        """Tell that a window is loaded, and the range of `updated_at` that is left to load."""
        self._windows.append((time.monotonic(), left))
        self.add(0)

    def close(self) -> None:
        """Take the live line away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _text(self) -> str:
        seconds = max(time.monotonic() - self._started, 0.001)
        said = f"{self._rows:,} enrollments read, {self._rows / seconds:,.0f} rows/s"
        if done := len(self._windows):
            said += f", {done} window{'s' if done > 1 else ''} done{self._time_left()}"
        return said

    def _time_left(self) -> str:
        (since, much), (now, little) = self._windows[0], self._windows[-1]
        if not timedelta() < little < much:
            return ""
        return f", about {(now - since) * (little / (much - little)):,.0f} s left"

    def _show(self) -> None:
        if self._bar is None:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(self._text())
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], description=self._text())
