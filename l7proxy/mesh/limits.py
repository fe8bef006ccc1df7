"""What the tunnel between nodes grants, and why so much.

None of it is an option: whoever needs other figures has another trouble. How many streams one identity may have is
`--max-connections`, as for all that goes through the proxy, and how long one may be silent is `--idle-timeout`.

A connection carries one stream at a time. So TCP's own flow control is the stream's, a client that reads slowly holds
up no other, and no byte of one stream can be taken for another's; what several streams at once would save, handshakes,
is saved by keeping connections. How many bytes of a stream wait at either side is edge/link.py's to say (its high
water), besides one read of TLS (256 KiB) and the sockets' buffers.
"""

SERVERS_HANDSHAKE_S = 5.0  # from the first packet on: a peer may say a byte of its hello every now and then
# Longer, as a worker that has died at the other end is replaced meanwhile, and the call waits in its socket.
CLIENTS_HANDSHAKE_S = 10.0
OWNER_S = 2.0  # for an agent to say whose an address is: another node's may have known first
OPEN_S = 3 * OWNER_S  # for the other node's answer, which may be held for its agent
FIRST_S = 5.0  # between the handshake and the first stream, which comes at once if it is to come
LINGER_S = 10.0  # for a peer to end a stream that has been closed here, or to take the end of TLS

IDLE_S = 60.0  # for the next stream on a connection that was made here
SERVERS_IDLE_S = 2 * IDLE_S  # on one that was made there: who made it ends it, so that no stream meets a closed one
MOST_IDLE = 64  # of one pair of workloads and a node, for one worker
MOST_SPARE = 256  # of one workload at the server's side, beside its streams
MOST_HANDSHAKES = 256  # under way at once: each is about a millisecond of one core
AT_ONCE = 64  # handshakes that begin before anything else has its turn
AGAIN_S = 0.05  # until calls are taken in again when there was no room for them
