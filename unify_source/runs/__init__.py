"""What commands and scripts call: sync, backfill, plan, check, status."""
