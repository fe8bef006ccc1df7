"""HTTP/1.1 without sockets: heads, bodies, and what a connection may do next (RFC 9110, RFC 9112)."""
