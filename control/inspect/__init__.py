"""What the maps hold, in words: pure functions from records and names to plain rows, the same for tables and JSON."""
