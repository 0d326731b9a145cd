"""Limits of new columns' names, and of what is written at once."""

from __future__ import annotations

MAX_PATH_LENGTH = 200
"""A field gets a column if the keys that lead to it have at most so many characters in total."""

JOINED_ROWS = 60_000
"""At most so many rows are written at once."""

JOINED_BYTES = 32 << 20
"""At most so many bytes of rows are written at once."""

JOINED_WIDE_BYTES = 8 << 20
"""At most so many bytes that make rows wide are written at once: each step copies them."""
