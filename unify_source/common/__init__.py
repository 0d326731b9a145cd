"""What every room may use: the errors, the facts, the settings, times and the seam to dlt."""
