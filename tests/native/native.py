"""bpf/'s own C, compiled by the ordinary compiler and called through ctypes: the same files that the kernel runs."""

import ctypes
import dataclasses
import functools
import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from control import compile as compiler
from loader import abi
from loader.record import Record, pack_addr

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "tests/.build"
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unknown-pragmas")
_TABLES: dict[str, tuple[type[Record], type[Record]]] = {
    "policy": (abi.PolicyKey, abi.PolicyValue),
    "endpoints": (abi.EndpointKey, abi.Endpoint),
    "endpoint_ips": (abi.AddrKey, abi.EndpointRef),
    "ipcache": (abi.IpcacheKey, abi.IpcacheValue),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Return the library, compiled anew when any of its sources changed; raises CalledProcessError with cc's words."""
    sources = [*sorted((ROOT / "bpf").glob("*.h")), *sorted(HERE.rglob("*.[ch]"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + repr(FLAGS).encode()).hexdigest()[:16]
    target = BUILD / f"native-{digest}.so"
    if not target.exists():
        BUILD.mkdir(exist_ok=True)
        draft = target.with_suffix(".new")
        subprocess.run(["cc", *FLAGS, f"-I{HERE / 'include'}", "-o", draft, HERE / "native.c"], check=True)
        draft.rename(target)
    return ctypes.CDLL(str(target))


class Answer(ctypes.Structure):
    """struct answer of bpf/policy.h."""

    _fields_ = (
        ("rule_id", ctypes.c_uint32),
        ("verdict", ctypes.c_uint8),
        ("reason", ctypes.c_uint8),
        ("audited", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
    )


class Pair(ctypes.Structure):
    """struct pair of bpf/policy.h."""

    _fields_ = (
        ("src_endpoint", ctypes.c_uint32),
        ("dst_endpoint", ctypes.c_uint32),
        ("src_identity", ctypes.c_uint32),
        ("dst_identity", ctypes.c_uint32),
        ("src_flags", ctypes.c_uint32),
        ("dst_flags", ctypes.c_uint32),
        ("egress", Answer),
        ("ingress", Answer),
    )


class Packet(ctypes.Structure):
    """struct packet of bpf/packet.h."""

    _fields_ = (
        ("saddr", ctypes.c_uint8 * 16),
        ("daddr", ctypes.c_uint8 * 16),
        ("sport", ctypes.c_uint16),
        ("dport", ctypes.c_uint16),
        ("policy_port", ctypes.c_uint16),
        ("proto", ctypes.c_uint8),
        ("tcp_flags", ctypes.c_uint8),
        ("icmp_type", ctypes.c_uint8),
        ("icmp_code", ctypes.c_uint8),
        ("hop_limit", ctypes.c_uint8),
        ("related", ctypes.c_uint8),
        ("frag_id", ctypes.c_uint32),
        ("later_fragment", ctypes.c_uint8),
        ("icmp", ctypes.c_uint8),
        ("multicast", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
        ("payload", ctypes.c_uint32),
        ("seq", ctypes.c_uint32),
    )


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What the parser made of a frame: a DropReason (0: all is well) and the packet."""

    reason: int
    packet: Packet

    @property
    def is_icmp_error(self) -> bool:
        return bool(library().native_is_icmp_error(ctypes.byref(self.packet)))

    @property
    def is_link_control(self) -> bool:
        return bool(library().native_is_link_control(ctypes.byref(self.packet)))

    def ct_keys(self, endpoint: int, direction: abi.Direction) -> tuple[bytes, bytes]:
        """Return the conntrack keys (as made for the one who began, as made for the one who answers)."""
        forward, reverse = (ctypes.create_string_buffer(abi.CtKey.SIZE) for _ in range(2))
        library().native_ct_keys(forward, reverse, endpoint, int(direction), ctypes.byref(self.packet))
        return forward.raw, reverse.raw


def parse(frame: bytes) -> Parsed:
    packet = Packet()
    reason = library().native_parse(ctypes.byref(packet), frame, len(frame))
    return Parsed(reason, packet)


def conn_side(local: str, remote: str, lport: int, rport: int) -> tuple[int, abi.ConnKey]:
    """Return which side `local` is, and the key that both ends share."""
    key = ctypes.create_string_buffer(abi.ConnKey.SIZE)
    side = library().native_conn_side(key, _aligned(local), _aligned(remote), lport, rport)
    return side, abi.ConnKey.unpack(key.raw)


def _aligned(ip: str) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * 2).from_buffer_copy(pack_addr(ip))


class Kernel:
    """The policy look-ups of bpf/policy.h over these entries. One at a time: the tables are the library's own."""

    def __init__(self, maps: Mapping[str, Mapping[Record, Record]]) -> None:
        self._buffers = []
        self.turn(abi.EditionState.NOW)
        for number, (name, (key_type, value_type)) in enumerate(_TABLES.items()):
            rows = sorted((key.pack(), value.pack()) for key, value in maps.get(name, {}).items())
            buffer = ctypes.create_string_buffer(b"".join(key + value for key, value in rows) or b"\0")
            self._buffers.append(buffer)
            library().native_table(number, buffer, len(rows), key_type.SIZE, value_type.SIZE)

    @classmethod
    def of(cls, desired: compiler.Desired) -> "Kernel":
        return cls(desired.maps)

    def ask(
        self, endpoint: abi.Endpoint, direction: int, peer: int, proto: int, port: int, next_peer: int | None = None
    ) -> Answer:
        """`next_peer`: the peer's identity in the edition to come, if it is another."""
        answer = Answer()
        later = peer if next_peer is None else next_peer
        library().native_ask(ctypes.byref(answer), endpoint.pack(), direction, peer, later, proto, port)
        return answer

    def turn(self, state: abi.EditionState) -> None:
        """Let another edition count."""
        library().native_edition(int(state))

    def ask_pair(self, source: str, destination: str, proto: int, port: int) -> Pair:
        pair = Pair()
        library().native_ask_pair(ctypes.byref(pair), _aligned(source), _aligned(destination), proto, port)
        return pair
