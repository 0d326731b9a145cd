"""Reads a destination: rows, loads, schema versions; and keeps what a run that died has left."""
