"""What dlt, its files and the environment say, and what goes wrong in them."""
