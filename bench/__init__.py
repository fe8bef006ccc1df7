"""Measures the mesh against plain veth and a Unix socket: `python -m bench`. Uses the tests' pods and programs."""
