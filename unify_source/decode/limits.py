"""How much of one row is taken before it is set aside, or kept as one piece of JSON."""

from __future__ import annotations

# Far below the depth at which any parser on a row's way gives up: orjson stops at 1,024 levels,
# recursive ones at whatever their stack holds.
MOST_LEVELS = 64
"""How deep a row may be nested; a deeper one goes to quarantine."""

# A listed row has some 600 bytes. One of this size is broken, and parsing it would hold it in
# memory several times over.
MOST_ROW_BYTES = 16 << 20
"""How long the JSON text of a row may be; a longer one goes to quarantine."""

MOST_NEW_COLUMNS = 200
"""How many columns a table may have that the API does not promise, in all runs together.

Postgres stops at 1,600 columns, and a merge takes the longer the more there are.
"""

MOST_PATH_LETTERS = 200
"""How long the keys that lead to a new field may be, together, for it to get a column."""

JOINED_ROWS = 60_000
"""How many rows are written at once."""

JOINED_BYTES = 32 << 20
"""How many bytes of rows are written at once, in memory: wide rows must not fill it."""
