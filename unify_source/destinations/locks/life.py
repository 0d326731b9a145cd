"""Tells of a process of this machine whether it lives, whatever container it is in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

_KEPT_SECONDS = 24 * 60 * 60


class LifeLock(FileLock):
    """The lock of a file that is held as long as a process lives."""

    # A fork has the lock as well, and would let go of it for all when it ends.
    def __del__(self, *_: object) -> None:
        pass


@contextmanager
def living(name: str) -> Iterator[None]:
    """Let other processes of this machine know that what has this name lives."""
    lock = LifeLock(_file(name), thread_local=False)
    # A folder that cannot be written leaves others to wait until a lease runs out.
    with suppress(OSError):
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


def forget(name: str) -> None:
    """Leave no file of what had this name, once nothing asks any more whether it lives."""
    with suppress(OSError):
        _file(name).unlink()


def sweep() -> None:
    """Clear away what was left a day ago by processes that have died since.

    Their claims may still stand somewhere, and the next run there would wait for them. A day is
    longer than most schedules leave between two runs.
    """
    until = time.time() - _KEPT_SECONDS
    for file in _file("*").parent.glob(_file("*").name):
        with suppress(OSError):
            # A file that is new may not have its lock yet; an old one without a lock gets none.
            if file.stat().st_mtime < until:
                with FileLock(file).acquire(timeout=0):
                    file.unlink()


def died_here(name: str) -> bool:
    """Tell whether what has this name was a process of this machine, and has died.

    What another machine wrote has no file here, and nothing is known of it.
    """
    file = _file(name)
    # To try the lock would make the file.
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(timeout=0):
            return True
    except OSError:
        return False


def _file(name: str) -> Path:
    return Path(tempfile.gettempdir(), f"unify-source-{name}.alive")
