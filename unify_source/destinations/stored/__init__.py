"""What a destination holds: rows, loads, schema versions, and what a run that died has left."""
