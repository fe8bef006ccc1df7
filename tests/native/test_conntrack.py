"""When a conntrack entry is dead, as the packet hooks take it and as the agent does."""

import ctypes

import pytest

from control.agent import tracked
from loader import abi
from tests.native.native import library

SECOND = 1_000_000_000
SEEN = 500 * SECOND
CONFIG = abi.Config(
    generation=1, probation_packets=8, udp_timeout_s=60, tcp_timeout_s=21_600, tcp_close_timeout_s=10,
    icmp_timeout_s=30, acceleration=1, self_test=1,
)  # fmt: skip


def expired(proto: abi.Proto, flags: int, now: int) -> bool:
    entry = abi.CtEntry(
        created=SEEN, last_seen=SEEN, tx_packets=1, tx_bytes=1, rx_packets=1, rx_bytes=1, generation=1, rule_id=0,
        flags=flags, identity=1, peer_identity=1, peer_endpoint=0,
    ).pack()  # fmt: skip
    return bool(library().native_ct_expired(entry, int(proto), ctypes.c_uint64(now), CONFIG.pack()))


@pytest.mark.parametrize("proto", [abi.Proto.TCP, abi.Proto.UDP, abi.Proto.ICMP, abi.Proto.ICMPV6, abi.Proto.SCTP])
@pytest.mark.parametrize("flags", [0, int(abi.CtFlag.CLOSING)])
def test_an_entry_is_dead_when_its_time_is_over(proto: abi.Proto, flags: int) -> None:
    limit = tracked.limit_s(int(proto), flags, CONFIG) * SECOND
    assert not expired(proto, flags, SEEN + limit) and expired(proto, flags, SEEN + limit + 1)


def test_one_that_another_core_has_seen_since_this_packet_came_is_alive() -> None:
    """Else a busy connection is now and then taken for a dead one, and its packet for one of nobody's."""
    assert not expired(abi.Proto.TCP, 0, SEEN - 1) and not expired(abi.Proto.UDP, 0, SEEN - 3 * SECOND)
