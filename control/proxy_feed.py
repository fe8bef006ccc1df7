"""What an agent and the node proxy say to each other, over a Unix socket: frames of a length and one pickled message.

Only processes of one version talk so, and only downwards in privilege: the proxy reads pickles of the agent, which runs
as root; the agent reads nothing of the proxy but JSON, every length bounded.
"""

import json
import pickle
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from control import model
from control.policy_set import L7
from loader import abi

SOCKET = "proxy.sock"  # in the run directory
LENGTH = struct.Struct("=I")
MOST_DOWN, MOST_UP = 256 << 20, 16 << 20  # bytes of a frame
Json = dict[str, Any]


class Ground(NamedTuple):
    """Where the proxy has to stand: its network namespace, its cgroup, and the map for its listening sockets."""

    netns: str
    cgroup: str
    doors: str


class Sets(NamedTuple):
    """All policy sets of the node that ask the proxy, and which turn this is: to be answered by it.

    `headers`: lower-case names of those whose values go on record. `traces`: of requests whose caller has not said
    whether they are to be traced, how many are; None: none is.
    """

    turn: int
    sets: Mapping[int, Mapping[abi.PolicyKey, L7]]
    headers: tuple[str, ...] = ()
    names: tuple[model.NamePeer, ...] = ()  # of which the agent is to be told what they resolve to
    traces: float | None = None


class InForce(NamedTuple):
    """What a worker, by its process's number, has learned of names and told under a number is in force."""

    worker: int
    number: int


class Mesh(NamedTuple):
    """Who speaks for whom between nodes. With the mode "off" all else is empty.

    `address`: this node's own, to listen at `port`; empty while nobody knows it: listen nowhere. `leaves`: by SPIFFE id
    of each service account with pods here, PEM: key, then chain; one whose certificate has ended is not there.
    `owners`: by address of each enrolled pod of the cluster, its SPIFFE id and its node's address: empty for this node,
    UNKNOWN_NODE where nobody knows it: to be refused, never to be called in plaintext.
    """

    mode: str = "off"  # or "permissive", "strict"
    trust_domain: str = ""
    port: int = 0
    address: str = ""
    roots: bytes = b""  # PEM, all that are trusted now
    leaves: Mapping[str, bytes] = {}
    owners: Mapping[str, tuple[str, str]] = {}

    def __repr__(self) -> str:  # the leaves have keys
        return f"Mesh({self.mode}, {len(self.leaves)} leaves, {len(self.owners)} owners)"


UNKNOWN_NODE = "?"
Down = Ground | Sets | InForce | Mesh


def down(message: Down) -> bytes:
    """Return a frame to the proxy."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def read_down(body: bytes) -> Down:
    """Return what an agent said."""
    message: Down = pickle.loads(body)
    return message


def up(kind: str, content: Sequence[Any] | Mapping[str, Any] | int) -> bytes:
    """Return a frame to the agent: "turn" or "workers" with a number, "requests" with a batch (flow/told.py), "lookups"
    with what became of each, "learned" with a worker, a number, and names with their addresses and TTLs: to be
    answered by InForce, or "handshakes" with what one worker counts (control/agent/handshakes.py)."""
    body = json.dumps([kind, content], separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


class Frames:
    """Bytes as they come, cut into the bodies of frames; raises ValueError for one that is too long."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting = most, bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        waiting = self._waiting
        waiting += data
        out = []
        while len(waiting) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(waiting)
            if length > self._most:
                raise ValueError(f"a frame of {length} bytes: at most {self._most}")
            end = LENGTH.size + length
            if len(waiting) < end:
                break
            out.append(bytes(waiting[LENGTH.size : end]))
            del waiting[:end]
        return out
