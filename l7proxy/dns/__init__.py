"""DNS without sockets: messages, who may ask what, and what names resolved to (RFC 1035, RFC 6891, RFC 7766)."""
