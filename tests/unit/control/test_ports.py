"""Port ranges as prefixes, and what may be written as a port."""

from hypothesis import given
from hypothesis import strategies as st

from control.policy import ports


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_range_is_split_into_exactly_its_ports(a: int, b: int) -> None:
    first, last = sorted((a, b))
    upcoming = first
    for port, plen in ports.split(first, last):
        assert port == upcoming
        assert port % (1 << (16 - plen)) == 0  # what the kernel masks a port to
        upcoming += 1 << (16 - plen)
    assert upcoming == last + 1


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_range_takes_few_entries(a: int, b: int) -> None:
    assert len(list(ports.split(*sorted((a, b))))) <= 30


def test_known_splits() -> None:
    assert list(ports.split(0, 65535)) == [(0, 0)]
    assert list(ports.split(80, 80)) == [(80, 16)]
    assert list(ports.split(1, 65535)) == [(1 << i, 16 - i) for i in range(16)]
    assert list(ports.split(8000, 8999)) == [(8000, 10), (8064, 9), (8192, 7), (8704, 8), (8960, 11), (8992, 13)]
    assert list(ports.split(65535, 65535)) == [(65535, 16)]
