"""The per-node proxy: sans-IO protocol code inside, sockets at the edge. Comes with the proxy's own issue."""
