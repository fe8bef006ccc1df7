"""What policy says of the bytes of a connection, compiled for many requests a second."""
