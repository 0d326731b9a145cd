"""The dlt source: a resource for each table, and the handling of load packages."""
