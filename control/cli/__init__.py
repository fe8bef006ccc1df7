"""The `sockmesh` command: one module a sub-command; each reads maps, the agent or files, and prints."""
