"""Reads the pages of a closed window, several requests at a time."""
