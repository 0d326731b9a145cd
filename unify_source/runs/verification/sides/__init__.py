"""The two sides of a comparison: the API and the destination."""
