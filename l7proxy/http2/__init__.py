"""HTTP/2 (RFC 9113) with HPACK (RFC 7541), bytes in and bytes out."""
