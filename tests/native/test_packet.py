"""bpf/packet.h: what policy gets to see of a frame, and that no frame can lie its way past."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader import abi, record
from tests.native import frames, native

INVALID = abi.DropReason.INVALID_PACKET_DROPPED
BAD_EXTENSION = abi.DropReason.INVALID_IPV6_EXTENSION_HEADER
TCP, UDP, ICMP, SCTP, ICMPV6 = 6, 17, 1, 132, 58


def packed(ip: str) -> bytes:
    return record.pack_addr(ip)


@pytest.mark.parametrize("proto", [TCP, UDP, SCTP])
@pytest.mark.parametrize("options", [b"", bytes(4), bytes(40)])
def test_ports_of_ipv4(proto: int, options: bytes) -> None:
    body = frames.tcp(40000, 443, 0x12) if proto == TCP else frames.ports(40000, 443)
    parsed = native.parse(frames.ethernet(frames.ipv4(body, proto, options=options)))
    packet = parsed.packet
    assert parsed.reason == 0
    assert (bytes(packet.saddr), bytes(packet.daddr)) == (packed("10.0.0.1"), packed("10.0.0.2"))
    assert (packet.proto, packet.sport, packet.dport, packet.policy_port) == (proto, 40000, 443, 443)
    assert packet.tcp_flags == (0x12 if proto == TCP else 0)
    assert packet.payload == 0
    assert packet.frag_id == 0


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_payload_of_tcp(size: int) -> None:
    body = frames.tcp(40000, 443) + bytes(size)
    for packet in (frames.ipv4(body, TCP, options=bytes(8)), frames.ipv6(body, TCP)):
        assert native.parse(frames.ethernet(packet)).packet.payload == size


@pytest.mark.parametrize("headers", [(), (0,), (0, 60), (60, 0, 43, 60)])
def test_ports_of_ipv6_behind_extension_headers(headers: tuple[int, ...]) -> None:
    body = frames.tcp(40000, 443)
    for following in [*headers[1:], TCP][::-1][: len(headers)]:
        body = frames.v6_options(following, words=1) + body
    parsed = native.parse(frames.ethernet(frames.ipv6(body, headers[0] if headers else TCP)))
    assert parsed.reason == 0
    assert (parsed.packet.proto, parsed.packet.sport, parsed.packet.dport) == (TCP, 40000, 443)


def test_too_many_extension_headers_are_refused() -> None:
    body = frames.tcp(1, 2)
    for following in (TCP, 60, 60, 60, 60, 60, 60):
        body = frames.v6_options(following) + body
    assert native.parse(frames.ethernet(frames.ipv6(body, 60))).reason == BAD_EXTENSION


def test_a_cut_off_extension_header_is_refused() -> None:
    assert native.parse(frames.ethernet(frames.ipv6(b"\x06\x00\x00", 60))).reason == BAD_EXTENSION


@pytest.mark.parametrize("packet", [
    frames.ipv4(b"", TCP)[:19],
    b"\x41" + frames.ipv4(frames.tcp(1, 2), TCP)[1:],  # a header of four bytes
    frames.ipv4(frames.tcp(1, 2)[:3], TCP),
    frames.ipv4(frames.tcp(1, 2)[:13], TCP),  # without its flags
    frames.ipv4(frames.ports(1, 2)[:3], UDP),
    frames.ipv4(frames.icmp(8)[:7], ICMP),
    frames.ipv6(frames.tcp(1, 2)[:13], TCP),
    frames.ipv6(b"", TCP)[:39],
])  # fmt: skip
def test_what_is_cut_off_is_refused(packet: bytes) -> None:
    assert native.parse(frames.ethernet(packet)).reason == INVALID


def test_ipv4_in_an_ipv6_frame_is_refused() -> None:
    frame = frames.MACS + b"\x86\xdd" + frames.ipv4(frames.tcp(1, 2), TCP) + bytes(40)
    assert native.parse(frame).reason == INVALID


@pytest.mark.parametrize(("word", "later"), [(0x2000, False), (0x2001, True), (0x0001, True), (0x1FFF, True)])
def test_ipv4_fragments(word: int, later: bool) -> None:
    parsed = native.parse(frames.ethernet(frames.ipv4(frames.ports(5, 6), UDP, fragment=word, ident=0)))
    assert parsed.reason == 0
    assert parsed.packet.frag_id != 0  # an identification of 0 is one, too
    assert bool(parsed.packet.later_fragment) == later
    assert (parsed.packet.sport, parsed.packet.dport) == ((0, 0) if later else (5, 6))


def test_do_not_fragment_is_no_fragment() -> None:
    packet = native.parse(frames.ethernet(frames.ipv4(frames.ports(5, 6), UDP, fragment=0x4000))).packet
    assert (packet.frag_id, packet.dport) == (0, 6)


@pytest.mark.parametrize(("offset", "more"), [(0, True), (8, True), (1448, False)])
def test_ipv6_fragments(offset: int, more: bool) -> None:
    body = frames.v6_fragment(UDP, offset, more, 0xABCDEF01) + frames.ports(5, 6)
    packet = native.parse(frames.ethernet(frames.ipv6(body, 44))).packet
    assert (packet.proto, bool(packet.later_fragment)) == (UDP, offset > 0)
    assert packet.frag_id == 0xABCDEF01
    assert packet.dport == (0 if offset else 6)


def test_an_atomic_fragment_is_a_whole_packet() -> None:
    body = frames.v6_fragment(UDP, 0, False, 9) + frames.ports(5, 6)
    packet = native.parse(frames.ethernet(frames.ipv6(body, 44))).packet
    assert (packet.frag_id, packet.dport) == (0, 6)


@pytest.mark.parametrize(("proto", "echo", "reply"), [(ICMP, 8, 0), (ICMPV6, 128, 129)])
def test_an_echo_and_its_answer_are_one_conversation(proto: int, echo: int, reply: int) -> None:
    build = frames.ipv4 if proto == ICMP else frames.ipv6
    ends = ("10.0.0.1", "10.0.0.2") if proto == ICMP else ("fd00::1", "fd00::2")
    asked = native.parse(frames.ethernet(build(frames.icmp(echo, ident=77), proto, ends[0], ends[1])))
    answered = native.parse(frames.ethernet(build(frames.icmp(reply, ident=77), proto, ends[1], ends[0])))
    another = native.parse(frames.ethernet(build(frames.icmp(reply, ident=78), proto, ends[1], ends[0])))
    assert asked.packet.policy_port == echo
    forward, _ = asked.ct_keys(5, abi.Direction.EGRESS)
    assert answered.ct_keys(5, abi.Direction.INGRESS)[1] == forward
    assert another.ct_keys(5, abi.Direction.INGRESS)[1] != forward


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 65535), st.integers(0, 65535), st.sampled_from([TCP, UDP, SCTP]), st.booleans())
def test_an_answer_finds_the_entry_of_its_question(sport: int, dport: int, proto: int, v6: bool) -> None:
    build, ends = (frames.ipv6, ("fd00::1", "fd00::2")) if v6 else (frames.ipv4, ("10.0.0.1", "10.0.0.2"))
    there = native.parse(frames.ethernet(build(frames.tcp(sport, dport), proto, ends[0], ends[1])))
    back = native.parse(frames.ethernet(build(frames.tcp(dport, sport), proto, ends[1], ends[0])))
    forward, _ = there.ct_keys(5, abi.Direction.EGRESS)
    assert back.ct_keys(5, abi.Direction.INGRESS)[1] == forward
    assert back.ct_keys(6, abi.Direction.INGRESS)[1] != forward
    assert back.ct_keys(5, abi.Direction.EGRESS)[1] != forward


@pytest.mark.parametrize(("proto", "errors"), [(ICMP, {3, 4, 5, 11, 12}), (ICMPV6, {1, 2, 3, 4})])
def test_which_icmp_types_are_errors(proto: int, errors: set[int]) -> None:
    build = frames.ipv4 if proto == ICMP else frames.ipv6
    found = {t for t in range(256) if native.parse(frames.ethernet(build(frames.icmp(t), proto))).is_icmp_error}
    assert found == errors


def test_only_what_stays_on_the_link_is_link_control() -> None:
    def control(kind: int, hops: int, proto: int = ICMPV6, src: str = "fd00::1", dst: str = "fd00::2") -> bool:
        packet = frames.ipv6(frames.icmp(kind), proto, src, dst, hops)
        return native.parse(frames.ethernet(packet)).is_link_control

    assert {kind for kind in range(256) if control(kind, 255)} >= {133, 134, 135, 136, 137}
    assert not {kind for kind in range(256) if control(kind, 64)} & {128, 129, 133, 134, 135, 136, 137}
    assert not control(135, 255, proto=UDP)
    for kind in (130, 131, 132, 143):
        assert control(kind, 1, src="fe80::1", dst="ff02::16") and control(kind, 1, src="::", dst="ff02::16")
        assert not control(kind, 64, src="fe80::1", dst="ff02::16")
        assert not control(kind, 1, src="fd00::1", dst="ff02::16")
        assert not control(kind, 1, src="fe80::1", dst="fd00::2")
    v4 = native.parse(frames.ethernet(frames.ipv4(frames.icmp(135), ICMP)))
    assert not v4.is_link_control


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=0, max_size=120), st.sampled_from([b"\x08\x00", b"\x86\xdd"]), st.integers(0, 255))
def test_any_bytes_are_parsed_or_refused(body: bytes, ethertype: bytes, proto: int) -> None:
    version = b"\x45" if ethertype == b"\x08\x00" else b"\x60"
    frame = bytearray(frames.MACS + ethertype + version + body)
    if len(frame) > 23:
        frame[23 if ethertype == b"\x08\x00" else 20] = proto
    parsed = native.parse(bytes(frame))
    assert parsed.reason in (0, INVALID, BAD_EXTENSION)
    if not parsed.reason and ethertype == b"\x08\x00":
        assert bytes(parsed.packet.daddr) == bytes(10) + b"\xff\xff" + bytes(frame[30:34])
        if parsed.packet.proto == UDP and not parsed.packet.later_fragment:
            at = 14 + (frame[14] & 15) * 4
            assert (parsed.packet.sport, parsed.packet.dport) == struct.unpack_from("!HH", frame, at)
