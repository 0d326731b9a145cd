"""Temporary folders that do not outlast their process by long, even if it is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_FOLDER = "unify-source"
_LOCK = "in-use.lock"
# A newer folder may belong to a process that is about to lock it.
_NEW_SECONDS = 60


class LifeLock(FileLock):
    """A file's lock that is held as long as the process lives."""

    # A forked process has the lock too, and would release it for all when it ends.
    def __del__(self, *_: object) -> None:
        pass


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Yield a folder that is deleted afterwards, or by the next process if this one is killed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}-"))
    lock = LifeLock(folder / _LOCK, thread_local=False)
    lock.acquire(timeout=0)
    process = os.getpid()
    try:
        for other in folder.parent.glob(f"{_FOLDER}-*"):
            if _is_abandoned(other, folder.stat().st_uid):
                shutil.rmtree(other, ignore_errors=True)
        yield str(folder)
    finally:
        if os.getpid() == process:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path, user: int) -> bool:
    # The lock tells whether a process lives, even one in another container.
    lock = folder / _LOCK
    try:
        if folder.lstat().st_uid != user or time.time() - lock.stat().st_mtime < _NEW_SECONDS:
            return False
        with FileLock(lock).acquire(timeout=0):
            return True
    except OSError:
        return False
