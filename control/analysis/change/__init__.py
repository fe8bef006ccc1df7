"""What a change opens and closes: pair by pair (`diff`), and beside all pairs (`beside`)."""
