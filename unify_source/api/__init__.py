"""Bytes over HTTP: connections, retries, the request budget. Knows no table."""
