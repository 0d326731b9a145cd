"""Where tests write: in memory, because a load waits for the disk longer than it works.

DuckDB waits until its file is on the disk. No test pulls the plug.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30


def write_in_memory() -> None:
    """Make memory the temporary folder of this process and of those that it starts.

    A container's own `/dev/shm` is often too small, or may not hold the programs of Postgres. A
    folder that the environment names is left as it is.
    """
    if "TMPDIR" in os.environ or not os.access(_IN_MEMORY, os.W_OK):
        return
    space = os.statvfs(_IN_MEMORY)
    if space.f_bavail * space.f_frsize < _ENOUGH or space.f_flag & os.ST_NOEXEC:
        return
    os.environ["TMPDIR"] = str(_IN_MEMORY)
    tempfile.tempdir = None  # pytest has asked before
