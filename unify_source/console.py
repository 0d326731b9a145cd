"""What a person or a program sees: sentences or one JSON object, and progress while work lasts."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from unify_source.errors import UnifyError

_EVERY_SECONDS = 5.0


class Screen:
    """Prints results on standard output, all else on standard error.

    With `as_json` standard output gets one JSON object and nothing else; `quiet` leaves out
    everything but results and errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._out = Console(soft_wrap=True, highlight=False)
        self._err = Console(stderr=True, soft_wrap=True, highlight=False)

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
        grid = Grid(title=title, title_justify="left", title_style="bold")
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
        return RowProgress(self._err, silent=self.quiet)


class RowProgress:
    """Counts rows: a live line on a terminal, else a plain line every few seconds."""

    def __init__(self, console: Console, *, silent: bool = False) -> None:
        self._console = console
        self._silent = silent
        self._rows = 0
        self._windows = (0, 0)
        self._started = self._told = time.monotonic()
        self._bar: Progress | None = None

    def add(self, rows: int) -> None:
        """Count rows that were read."""
        self._rows += rows
        if self._silent:
            return
        if self._console.is_terminal:
            self._show()
        elif time.monotonic() - self._told >= _EVERY_SECONDS:
            self._told = time.monotonic()
            self._console.print(self._text(), markup=False)

    def window_done(self, done: int, of: int) -> None:
        """Tell how many windows are loaded, of how many."""
        self._windows = (done, of)
        self.add(0)

    def close(self) -> None:
        """Take the live line away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _text(self) -> str:
        seconds = max(time.monotonic() - self._started, 0.001)
        done, of = self._windows
        windows = f", {done} of {of} windows loaded" if of > 1 else ""
        left = f", about {seconds / done * (of - done):,.0f} s left" if done and of > done else ""
        return f"{self._rows:,} enrollments read, {self._rows / seconds:,.0f} rows/s{windows}{left}"

    def _show(self) -> None:
        if self._bar is None:
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
