"""What the commands print: sentences, tables, or one JSON object."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from typing import Any, TextIO

from unify_source.cli.progress import Progress, terminal_width
from unify_source.cli.streams import is_terminal
from unify_source.common.errors import UnifyError

# In a pipe or a file rich assumes 80 columns, and would cut what another program reads.
_WIDEST = 240
_RED = "\x1b[31m{}\x1b[0m"
# Reports and errors name an argument as a caller in Python writes it.
_ARGUMENT = re.compile(r"\b(repair|restart|yes)=True\b")


class Screen:
    """Prints results on standard output, everything else on standard error.

    With `as_json` standard output gets one JSON object and nothing else; `quiet` prints nothing
    but errors and warnings; `verbose` leaves the terminal to dlt's log.
    """

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        is_live = is_terminal(sys.stderr) and not verbose
        self.progress = Progress(sys.stderr, is_live=is_live, is_silent=quiet)

    def result(self, data: dict[str, Any], lines: list[str]) -> None:
        """Print a result: as JSON, or as sentences."""
        self.progress.close()
        if self.as_json:
            self._print(sys.stdout, json.dumps(data, default=str))
        elif not self.quiet:
            self._print(sys.stdout, *lines)

    def note(self, text: str) -> None:
        """Print a line while the command runs."""
        if not self.quiet:
            self._print(sys.stderr if self.as_json else sys.stdout, text)

    def warn(self, text: str) -> None:
        """Print a warning on standard error, even with `quiet`."""
        self._print(sys.stderr, text)

    def table(self, title: str, headers: list[str], rows: list[list[str]]) -> None:
        """Show a small table, unless it is empty; numbers are aligned on the right."""
        if rows and not self.quiet and not self.as_json:
            self._print(sys.stdout, *_drawn(title, headers, rows, sys.stdout))

    def error(self, error: UnifyError) -> None:
        """Print what happened and what to do next."""
        self.progress.close()
        if self.as_json:
            message = {
                "error": error.what,
                "next_step": error.next_step,
                "exit_code": error.exit_code,
            }
            self._print(sys.stdout, json.dumps(message))
        what = f"Error: {error.what}"
        is_red = is_terminal(sys.stderr) and not os.environ.get("NO_COLOR")
        self._print(sys.stderr, _RED.format(what) if is_red else what, error.next_step)

    def _print(self, stream: TextIO, *lines: str) -> None:
        with self.progress.hidden():
            stream.write(_ARGUMENT.sub(r"--\1", "".join(f"{line}\n" for line in lines)))
            stream.flush()


class ScreenLog(logging.Handler):
    """Prints log records through a screen, so that they and its live line do not mix."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record's message."""
        self._screen.warn(self.format(record))


def _drawn(title: str, headers: list[str], rows: list[list[str]], stream: TextIO) -> list[str]:
    # Imported here: a run without a table starts sooner.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    has_lines = (stream.encoding or "").lower().startswith("utf")
    grid = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.HEAVY_HEAD if has_lines else box.ASCII2,
    )
    for index, header in enumerate(headers):
        # A null is an empty cell, in a column of numbers too.
        is_numeric = all(_is_number(row[index] or "0") for row in rows)
        grid.add_column(header, justify="right" if is_numeric else "left")
    for row in rows:
        grid.add_row(*row)
    is_watched = is_terminal(stream)
    drawn = io.StringIO()
    console = Console(
        file=drawn,
        force_terminal=is_watched,
        width=terminal_width(stream) if is_watched else _WIDEST,
        highlight=False,
        markup=False,
    )
    console.print(grid)
    return [line.rstrip() for line in drawn.getvalue().splitlines()]


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).isdigit()
