"""Messages out of a stream, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.dns.stream import Splitter, framed


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_any_cut_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(framed, messages))
    splitter, out, at = Splitter(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        out += splitter.take(data[at:cut])
        at = max(at, cut)
    assert out == messages and splitter.is_idle


def test_the_longest_message_a_byte_at_a_time() -> None:
    longest = bytes(range(256)) * 256
    splitter = Splitter()
    found = [m for byte in framed(longest[:-1]) for m in splitter.take(bytes([byte]))]
    assert found == [longest[:-1]]
    with pytest.raises(ValueError, match="65536"):
        framed(longest)


def test_half_a_message_is_held() -> None:
    splitter = Splitter()
    assert splitter.take(b"\0\2a\0") == [b"a\0"] and splitter.is_idle
    assert splitter.take(b"\0") == [] and not splitter.is_idle
    assert splitter.take(b"\1b\0\1c\0") == [b"b", b"c"] and not splitter.is_idle
