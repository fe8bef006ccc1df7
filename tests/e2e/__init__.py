"""Whole nodes in network namespaces, with real programs."""
