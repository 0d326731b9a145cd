"""A real terminal for a command: a pty, and a small model of what a person sees on it."""

from __future__ import annotations

import codecs
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fcntl import ioctl
from typing import Any

import warm

# The terminal becomes that of a session of its own, as a shell's is.
_ON_IT = """
import fcntl, os, runpy, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("unify_source", run_name="__main__", alter_sys=True)
"""
_PARTS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", re.DOTALL)


@dataclass
class Screen:
    """The screen of a terminal with this many columns after it received `sent`."""

    columns: int
    sent: str = ""
    lines: list[str] = field(default_factory=lambda: [""])
    shows_cursor: bool = True
    returncode: int = 0
    _column: int = 0

    def feed(self, text: str) -> None:
        """Draw what a program sent. Fails on an escape code that nothing here should send."""
        self.sent += text
        for argument, code, character in _PARTS.findall(text):
            if code:
                self._obey(argument, code)
            else:
                self._draw(character)

    def _obey(self, argument: str, code: str) -> None:
        if code == "K":
            self.lines[-1] = self.lines[-1][: self._column]
        elif argument == "?25":
            self.shows_cursor = code == "h"
        else:
            assert code == "m", f"an escape code that the model does not know: {argument}{code}"

    def _draw(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self.lines.append("")
            self._column = 0
        else:
            if self._column == self.columns:
                self.lines.append("")
                self._column = 0
            line = self.lines[-1]
            self.lines[-1] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1


def cold(
    words: tuple[str, ...], environment: dict[str, str], **streams: Any
) -> subprocess.Popen[str]:
    """Start Python with these words, and let it import dlt, as a person does."""
    return subprocess.Popen([sys.executable, *words], env=environment, text=True, **streams)


def watched(
    *words: str,
    columns: int = 300,
    until: Callable[[Screen], bool] = lambda _: False,
    start: Callable[..., subprocess.Popen[str]] = warm.start_python,
    **environment: str,
) -> Screen:
    """Run the command on a terminal, as a person does; press Ctrl-C once `until` is true."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    screen, is_pressed = Screen(columns), False
    known = {k: v for k, v in os.environ.items() if not k.startswith("RUNTIME__")}
    with start(
        ("-c", _ON_IT, *words),
        {**known, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        stops_at = time.monotonic() + 100
        decoder = codecs.getincrementaldecoder("utf-8")()
        while sent := _read(ours):
            screen.feed(decoder.decode(sent))
            assert time.monotonic() < stops_at, screen.sent
            if until(screen) and not is_pressed:
                is_pressed = True
                os.write(ours, b"\x03")
    os.close(ours)
    screen.returncode = process.returncode
    return screen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""  # Linux says EIO once the other side is closed
