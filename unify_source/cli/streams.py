"""Standard output and standard error that never end a run, even closed, full, or ASCII only."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, BinaryIO, TextIO


class Outlet(io.RawIOBase):
    """Writes to a standard stream, and drops what cannot be written.

    `failure` is the first error, such as a full disk. A reader that has exited (`head`, `less`) is
    not a failure.
    """

    def __init__(self, raw: io.RawIOBase | BinaryIO) -> None:
        self.failure: OSError | None = None
        self._raw = raw

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write the bytes, or drop them."""
        try:
            written = self._raw.write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows calls a gone reader EINVAL
                self.failure = self.failure or error
            return len(data)
        return len(data) if written is None else written

    def writable(self) -> bool:
        """Return True: Python asks before it wraps a stream."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that it writes to."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """Return whether it writes to a terminal."""
        return self._raw.isatty()


def protect() -> Outlet:
    """Put both streams behind an Outlet, and return that of standard output.

    Characters that the encoding lacks are replaced.
    """
    # The next file to be opened would get a descriptor that the caller closed: what is printed
    # would go into the database.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # On Ctrl-C, dlt asks it whether it is a terminal.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    result, sys.stdout = _protected(sys.stdout, "replace")
    _, sys.stderr = _protected(sys.stderr, "backslashreplace")
    return result


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can move its cursor, whatever CI claims."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _protected(stream: TextIO | None, errors: str) -> tuple[Outlet, TextIO]:
    if stream is None:  # Python's own sign that the descriptor was closed
        raw, encoding = io.FileIO(os.devnull, "w"), "utf-8"
    else:
        # Unbuffered (PYTHONUNBUFFERED), the buffer itself is raw.
        buffer: Any = stream.buffer
        raw, encoding = getattr(buffer, "raw", buffer), stream.encoding
    outlet: Any = Outlet(raw)
    return outlet, io.TextIOWrapper(
        io.BufferedWriter(outlet), encoding, errors, line_buffering=True
    )
