"""A dlt resource for each table, all fed by one reading."""
