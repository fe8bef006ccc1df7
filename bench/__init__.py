"""Measures the mesh against plain veth and a Unix socket."""
