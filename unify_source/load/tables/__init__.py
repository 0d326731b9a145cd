"""A dlt resource for each table: what dlt gets told of it, and which rows it gets."""
