"""What one load remembers for the next: cursors, and which rows it has seen. Pure."""
