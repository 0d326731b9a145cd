"""The memory that Arrow and the C library keep of what was read."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa


def give_back_memory() -> None:
    """Release what the allocators keep: a merge takes as much again as reading the rows did."""
    pa.default_memory_pool().release_unused()
    # glibc keeps what pages of a megabyte took, in an arena for each thread. musl has no such call.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
