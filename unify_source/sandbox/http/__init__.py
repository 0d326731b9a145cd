"""The API over HTTP: requests, responses, faults."""
