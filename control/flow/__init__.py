"""Flow records: a kernel event becomes one line in Hubble's JSON schema, is kept, filtered and printed.

`record` maps, `summary` words, `filter` chooses and `printer` prints: all pure. `sink` and `log` are the edges. May
import loader.abi, loader.record, loader.errors and control.names.
"""
