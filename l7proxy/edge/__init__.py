"""Sockets: who calls, whom the proxy calls for it, and the bytes between, by a session that has no sockets."""
