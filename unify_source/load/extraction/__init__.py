"""Reads one window: from page bodies to the rows of each table."""
