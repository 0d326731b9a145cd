"""What becomes of each run, noted in a table beside the data."""
