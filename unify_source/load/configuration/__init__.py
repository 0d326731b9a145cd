"""What dlt, its files and the environment configure, and what errors of dlt and drivers mean."""
