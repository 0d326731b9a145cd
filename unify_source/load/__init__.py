"""The dlt source: its resources, state, ledger and configuration, and its load packages."""
