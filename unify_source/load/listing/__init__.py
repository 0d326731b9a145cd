"""The list without a time filter: what it writes, and which of its rows are gone."""
