"""What sample pages say of a window: how many rows it has, and when they changed."""
