"""Page bodies become batches of nested rows, each judged by itself. Pure."""
