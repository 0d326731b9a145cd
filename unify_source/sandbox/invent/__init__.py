"""Invented people, sequences and replies, the same for the same seed."""
