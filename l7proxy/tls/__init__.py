"""What a TLS connection says before it is encrypted (RFC 8446), without sockets."""
