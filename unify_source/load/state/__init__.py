"""What one load remembers for the next: cursors, and which rows it has seen. Pure."""

from __future__ import annotations

from typing import Any

State = dict[str, Any]
"""What a resource keeps in dlt's state: JSON, stored with the rows of each load."""
