"""Requests as spans of OpenTelemetry, made of the node proxy's records: `spans` says what they are, `sender` hands them
to a process of its own, `export`, which alone has opentelemetry and talks to a collector."""
