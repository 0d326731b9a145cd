"""Guesses where to cut a window, from what its first pages have shown. Pure."""
