"""Nested rows become flat Arrow tables, one for each table of the warehouse. Pure."""
