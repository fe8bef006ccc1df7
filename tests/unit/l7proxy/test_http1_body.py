"""Where bodies end, however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.http1 import body
from l7proxy.http1.head import Malformed


def feed(kind: body.Body, data: bytes, cuts: list[int]) -> int:
    """Give the data in pieces; return how much was taken in all."""
    held, taken = b"", 0
    for first, last in zip([0, *cuts], [*cuts, len(data)], strict=True):
        held += data[first:last]
        end = kind.take(held, 0)
        held, taken = held[end:], taken + end
    return taken


@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans(), st.data())
def test_chunks_end_where_they_end(chunks: list[bytes], trailer: bool, data: st.DataObject) -> None:
    parts = [b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    whole = b"".join([*parts, b"0\r\n", b"x-y: z\r\n" if trailer else b"", b"\r\n"])
    after = b"GET / HTTP/1.1\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole + after)), max_size=8)))
    kind = body.Chunked()
    assert feed(kind, whole + after, cuts) == len(whole) and kind.is_done


@given(st.integers(0, 100), st.data())
def test_a_length(length: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), max_size=8)))
    kind = body.Sized(length)
    assert feed(kind, b"x" * 120, cuts) == length and kind.is_done


@pytest.mark.parametrize(
    "text",
    ["g\r\n", "-1\r\n", "0x5\r\n", " 5\r\n", "5 \r\n", "5\n", "\r\n", "5;a\rb\r\n", "5\r\nhelloX\r\n", "5\r\nhello\n",
     "1" * 16 + "\r\n", "0\r\nno colon\r\n\r\n", "0\r\n folded: x\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n",
     "0\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nA: b\nB: c\r\n\r\n"],
)  # fmt: skip
def test_broken_chunks(text: str) -> None:
    with pytest.raises(Malformed):
        body.Chunked().take(text.encode(), 0)


def test_lines_have_a_bound() -> None:
    for text in (b"5;" + b"x" * 5000, b"0\r\nA: " + b"x" * 20000):
        kind = body.Chunked()
        with pytest.raises(Malformed):
            kind.take(text[kind.take(text, 0) :], 0)
