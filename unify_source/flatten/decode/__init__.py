"""Decodes page bodies into batches of nested rows, each row on its own merits. Pure."""
