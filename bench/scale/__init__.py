"""What the policy engine costs in a large cluster: only objects in memory, no kernel (`python -m bench.scale`)."""
