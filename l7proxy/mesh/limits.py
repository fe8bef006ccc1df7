"""What the tunnel between nodes grants, and why so much.

None of it is an option: whoever needs other figures has another trouble. How many streams one identity may have is
`--max-connections`, as for all that goes through the proxy, and how long one may be silent is `--idle-timeout`.

A connection carries some streams at a time, of the same two workloads: many enough that small messages share calls of
the kernel and TLS records, few enough that one that is lost, or a stream that fills it, is not felt by many. How many
bytes of a stream wait at either side is what its reader has given credit for, besides edge/link.py's high water.
"""

SERVERS_HANDSHAKE_S = 5.0  # from the first packet on: a peer may say a byte of its hello every now and then
# Longer, as a worker that has died at the other end is replaced meanwhile, and the call waits in its socket.
CLIENTS_HANDSHAKE_S = 10.0
OWNER_S = 2.0  # for an agent to say whose an address is: another node's may have known first
OPEN_S = 3 * OWNER_S  # for the other node's answer, which may be held for its agent
FIRST_S = 5.0  # between the handshake and the first stream, which comes at once if it is to come
LINGER_S = 10.0  # for a peer to take the end of TLS

STREAMS = 16  # that a client begins on one connection, and
STREAMS_TAKEN = 4 * STREAMS  # that a server takes, and that it judges before anything else has its turn
HEAVY = 4 << 20  # bytes of a connection's streams until it gets no more of them: each would wait for the others' bytes
FIRST_WINDOW = 64 << 10  # bytes of a stream each way for which there is credit to begin with,
MOST_WINDOW = 4 << 20  # and for a reader that takes all that comes
MOST_UNSENT = 16 << 20  # bytes for a connection that does not take them: more than its streams may have for it

IDLE_S = 60.0  # for the next stream on a connection that was made here
SERVERS_IDLE_S = 2 * IDLE_S  # on one that was made there: who made it ends it, so that no stream meets a closed one
MOST_IDLE = 64  # of one pair of workloads and a node, for one worker
MOST_SPARE = 256  # of one workload at the server's side, beside its streams
MOST_REFUSED = 5  # new connections on which the other node takes no stream of a call
MOST_HANDSHAKES = 256  # under way at once: each is about a millisecond of one core
AT_ONCE = 64  # handshakes that begin before anything else has its turn
AGAIN_S = 0.05  # until calls are taken in again when there was no room for them
