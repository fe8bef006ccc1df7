"""YAML and JSON to a `Snapshot`: `directory.load` for the agent, `manifests.load` for answers without a cluster."""
