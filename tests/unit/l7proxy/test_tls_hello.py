"""Names that real TLS clients ask for, cut in any way, and what is no hello."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.tls import hello


def real(name: str | None) -> bytes:
    """Return the first bytes that OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def records(message: bytes, size: int) -> bytes:
    """Return a handshake message in records of at most `size` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


SHOP = real("Shop.Example")
MESSAGE = SHOP[5:]
NAME = b"Shop.Example"


def test_the_name() -> None:
    assert hello.server_name(SHOP) == "shop.example"
    assert hello.server_name(SHOP + b"early data") == "shop.example"
    assert hello.server_name(real(None)) == ""


def test_each_byte_counts() -> None:
    assert {hello.server_name(SHOP[:size]) for size in range(len(SHOP))} == {None}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_a_hello_in_many_records(size: int) -> None:
    cut = records(MESSAGE, size)
    assert hello.server_name(cut) == "shop.example"
    assert hello.server_name(cut[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x02\x01\x00\x10",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x50\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x01",
        records(b"\x01\xff\xff\xff", 10),
        records(b"\x01\x00\x00\x05" + b"short", 100),
        SHOP.replace(NAME, b"shop\x00example"),
        SHOP.replace(b"\x00\x00\x0c" + NAME, b"\x01\x00\x0c" + NAME),
    ],
)
def test_what_is_no_hello(data: bytes) -> None:
    with pytest.raises(hello.NotAHello):
        hello.server_name(data)


@given(st.binary(max_size=300), st.integers(0, len(SHOP)))
def test_anything_is_a_name_or_nothing(noise: bytes, at: int) -> None:
    for data in (noise, SHOP[:at] + noise, SHOP[:at] + noise + SHOP[at + len(noise) :]):
        try:
            found = hello.server_name(data)
        except hello.NotAHello:
            continue
        assert found is None or len(found) <= 255
