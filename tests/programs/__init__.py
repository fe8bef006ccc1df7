"""Real programs in pods: one module a program says how to start it and how to ask it for something that can be checked.

`trial` runs such a scenario with and without the short cut and gives what the mesh has on record about it.
"""
