"""How much of one key gets a column, and how much is written at once."""

from __future__ import annotations

MOST_PATH_LETTERS = 200
"""How long the keys that lead to a new field may be, together, for it to get a column."""

JOINED_ROWS = 60_000
"""How many rows are written at once."""

JOINED_BYTES = 32 << 20
"""How many bytes of rows are written at once, in memory: wide rows must not fill it."""
