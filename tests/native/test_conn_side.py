"""bpf/ctx.h: both ends of a connection find the same record, on different sides of it."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from loader.record import pack_addr
from tests.native import native

V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str).filter(lambda ip: not ip.startswith("::ffff:"))
PORTS = st.integers(0, 65535)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)), PORTS, PORTS, st.booleans())
def test_the_lower_end_is_side_0(ends: tuple[str, str], port: int, other_port: int, same: bool) -> None:
    a, b = (ends[0], ends[0]) if same else ends
    mine, theirs = (int(ipaddress.ip_address(a)), port), (int(ipaddress.ip_address(b)), other_port)
    side, key = native.conn_side(a, b, port, other_port)
    other_side, other_key = native.conn_side(b, a, other_port, port)
    assert key == other_key
    assert side == (1 if mine > theirs else 0)
    if mine != theirs:
        assert other_side == 1 - side
    lower, higher = sorted([(pack_addr(a), port), (pack_addr(b), other_port)])
    assert ((key.addr0, key.port0), (key.addr1, key.port1)) == (lower, higher)
