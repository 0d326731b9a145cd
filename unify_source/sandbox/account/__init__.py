"""An account: its rows, how they change, and what a query sees of them."""
