"""An account: what it holds, how it changes, what a query sees of it."""
