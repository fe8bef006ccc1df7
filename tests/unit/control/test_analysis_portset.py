"""Sets of ports against sets of numbers."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import model
from control.analysis import portset
from control.analysis.portset import ALL, NONE, PROTOCOLS, PortSet
from loader import abi

TCP, UDP, SCTP = PROTOCOLS
EDGES = (0, 1, 2, 79, 80, 81, 82, 1023, 1024, 65533, 65534, 65535)
WATCHED = [(proto, port) for proto in PROTOCOLS for port in EDGES if port]


@st.composite
def specs(draw: st.DrawFn) -> model.PortSpec:
    first = draw(st.sampled_from(EDGES))
    proto = draw(st.sampled_from((*PROTOCOLS, abi.Proto.ANY, abi.Proto.ICMP)))
    return model.PortSpec(proto, first, draw(st.sampled_from([p for p in EDGES if p >= first])))


def brute(given_specs: list[model.PortSpec]) -> set[tuple[abi.Proto, int]]:
    return {
        (proto, port)
        for proto, port in WATCHED
        if any(s.proto in (proto, abi.Proto.ANY) and s.first <= port <= s.last for s in given_specs)
    }


def held(ports: PortSet) -> set[tuple[abi.Proto, int]]:
    return {item for item in WATCHED if item in ports}


def check_canonical(ports: PortSet) -> None:
    for (_, last), (first, _) in zip(ports.spans, ports.spans[1:], strict=False):
        assert last + 1 < first
    assert all(first <= last and first % 65536 and first >> 16 == last >> 16 for first, last in ports.spans)
    assert PortSet(tuple(ports.spans)) is ports


@given(st.lists(specs(), max_size=5), st.lists(specs(), max_size=5))
def test_operations_agree_with_sets_of_numbers(one: list[model.PortSpec], other: list[model.PortSpec]) -> None:
    a, b = portset.of_specs(one), portset.of_specs(other)
    assert (held(a), held(b)) == (brute(one), brute(other))
    for found, expected in (
        (a | b, held(a) | held(b)),
        (a & b, held(a) & held(b)),
        (a - b, held(a) - held(b)),
        (ALL - a, held(ALL) - held(a)),
    ):
        check_canonical(found)
        assert held(found) == expected
        assert bool(found) == bool(found.spans)
    assert a | b is b | a is portset.union([b, a, b])
    assert a & b is b & a
    assert (a - b) | (a & b) is a
    assert ALL - (ALL - a) is a
    assert a | ALL is ALL
    assert a & ALL is a
    assert a - ALL is NONE


def test_words_and_ranges() -> None:
    web = portset.of_specs([model.PortSpec(TCP, 80, 80), model.PortSpec(TCP, 81, 90), model.PortSpec(UDP, 53, 53)])
    assert str(web) == "TCP 80-90; UDP 53"
    assert list(web.by_protocol()) == [(TCP, [(80, 90)]), (UDP, [(53, 53)])]
    assert str(portset.of_specs([model.PortSpec(SCTP)])) == "SCTP"
    assert str(ALL) == "all"
    assert list(ALL.by_protocol()) == [(proto, [(1, 65535)]) for proto in PROTOCOLS]
    assert str(NONE) == "nothing"
    assert portset.of_specs(None) is ALL
    assert portset.of_specs([model.PortSpec(abi.Proto.ANY)]) is ALL
    assert portset.of_specs([model.PortSpec(TCP, 0, 0), model.PortSpec(abi.Proto.ICMP, 8, 8)]) is NONE
    assert portset.of_specs([model.PortSpec(TCP, name="http")]) is NONE
    assert (TCP, 0) not in ALL
    assert (abi.Proto.ICMP, 8) not in ALL


def test_a_set_cannot_be_changed_and_stays_one_object() -> None:
    web = portset.of_specs([model.PortSpec(TCP, 80, 80)])
    with pytest.raises(AttributeError):
        web.spans = ()
    assert pickle.loads(pickle.dumps(web)) is web
    assert {web: 1}[portset.of_specs([model.PortSpec(TCP, 80, 80)])] == 1


def test_of_very_many_ranges_people_are_told_the_first() -> None:
    ports = portset.of_specs([model.PortSpec(TCP, 2 * port, 2 * port) for port in range(1, 3001)])
    assert str(ports).startswith("TCP 2, 4, 6, ") and str(ports).endswith(", 198, 200 and 2900 more")
    assert len(str(ports)) < 600
