"""Flattens nested rows into Arrow tables, one for each table of the warehouse. Pure."""
