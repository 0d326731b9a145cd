"""Limits of new columns' names, and of what is written at once."""

from __future__ import annotations

MAX_PATH_LENGTH = 200
"""The most characters that the keys leading to a field may have in total for it to get a column."""

JOINED_ROWS = 60_000
"""The most rows written at once."""

JOINED_BYTES = 32 << 20
"""The most bytes of rows written at once."""

JOINED_WIDE_BYTES = 8 << 20
"""The most bytes that make rows wide written at once: each step copies them."""
