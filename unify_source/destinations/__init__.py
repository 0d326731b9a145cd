"""What differs from one destination to another."""
