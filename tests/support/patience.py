"""How long a test waits for what is sure to come, on a busy machine too."""

from __future__ import annotations

PATIENCE = 600
"""Seconds. A test that runs into them has found a process that hangs."""
