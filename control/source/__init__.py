"""The standalone source: a directory of YAML and JSON to a `Snapshot`. `directory.load` is the only reader of files."""
