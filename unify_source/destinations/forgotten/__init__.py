"""Deletes people for good, and remembers whom."""
