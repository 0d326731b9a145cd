"""Loads windows one after another, each in a load package of its own."""
