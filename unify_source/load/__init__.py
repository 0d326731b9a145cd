"""The dlt source: a resource for each table, and what becomes of a load package."""
