"""What the warehouse has, and what dlt is told about each table."""
