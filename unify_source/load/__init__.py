"""The dlt source: its resources, its state, its load packages."""
