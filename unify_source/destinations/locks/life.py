"""Tells whether a process of this machine is alive, in whatever container it runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from unify_source.common.temporary import LifeLock

_KEPT_SECONDS = 24 * 60 * 60


@contextmanager
def living(name: str) -> Iterator[None]:
    """Show other processes of this machine that the owner of this name is alive."""
    lock = LifeLock(_file(name), thread_local=False)
    # If the folder is read-only, others have to wait until a lease runs out.
    with suppress(OSError):
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


def forget(name: str) -> None:
    """Delete the file of a name, once no process asks for it any more."""
    with suppress(OSError):
        _file(name).unlink()


def sweep() -> None:
    """Delete files that dead processes left behind a day ago or earlier.

    Their claims may still exist, and the next run there would wait for them. Most schedules run
    more often than once a day.
    """
    until = time.time() - _KEPT_SECONDS
    for file in _file("*").parent.glob(_file("*").name):
        with suppress(OSError):
            # A new file may not have its lock yet; an old one without a lock never gets one.
            if file.stat().st_mtime < until:
                with FileLock(file).acquire(timeout=0):
                    file.unlink()


def died_here(name: str) -> bool:
    """Tell whether the owner of this name was a process of this machine and is dead.

    The owner of a claim from another machine has no file here, so nothing is known about it.
    """
    file = _file(name)
    # Trying the lock would create the file.
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(timeout=0):
            return True
    except OSError:
        return False


def _file(name: str) -> Path:
    return Path(tempfile.gettempdir(), f"unify-source-{name}.alive")
