"""Slices of a window: where to cut it, from what its first pages have shown. No HTTP."""
