"""Unify sequence enrollments, incrementally, in your own warehouse."""
