"""HTTP: connections, retries, the request budget. Knows nothing of tables."""
