"""The two sides of a comparison: what the API shows, and what the destination holds."""
