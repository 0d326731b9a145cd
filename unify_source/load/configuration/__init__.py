"""What dlt, its files and the environment configure, and the errors in them."""
