"""What policies mean all together, as answers: pure functions from a snapshot to what is shown. Imports no edge."""
