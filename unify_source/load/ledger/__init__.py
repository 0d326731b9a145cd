"""Records each run in a table beside the data."""
