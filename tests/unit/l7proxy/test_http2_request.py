"""What requests and answers say, and those that nobody should act on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.http2 import answer, hpack, request
from l7proxy.http2.fields import Malformed
from l7proxy.http2.frames import Broken

HEAD = ":method=GET :scheme=http :path=/open?a=b :authority=Shop:80"


def fields(text: str) -> list[hpack.Field]:
    """Return the fields of `name=value name=value`; ~ stands for a blank."""
    return [
        (name.encode(), value.replace("~", " ").encode("latin-1"))
        for name, _, value in (each.partition("=") for each in text.split(" ") if each)
    ]


def block(text: str) -> bytes:
    return hpack.encode(fields(text))


def test_what_a_request_says() -> None:
    found = request.read(block(HEAD + " te=trailers content-type=application/grpc+proto content-length=07 x=1"))
    assert found[:3] == ("GET", "/open?a=b", "shop:80")
    assert (found.is_grpc, found.length) == (True, 7)
    assert found.fields == tuple(fields("te=trailers content-type=application/grpc+proto content-length=07 x=1"))
    assert found.pseudo == tuple(fields(HEAD))


@pytest.mark.parametrize(
    ("text", "method", "path", "host"),
    [
        (":path=/ :method=POST :scheme=https host=a x=y", "POST", "/", "a"),
        (":method=OPTIONS :path=* :scheme=http :authority=a host=A", "OPTIONS", "*", "a"),
        (":method=CONNECT :authority=a:443", "CONNECT", "", "a:443"),
    ],
)
def test_other_heads(text: str, method: str, path: str, host: str) -> None:
    assert request.read(block(text))[:3] == (method, path, host)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x=y",
        ":method=GET :path=/ :scheme=http",  # no host
        ":method=GET :path=/ :authority=a",
        ":method=GET :scheme=http :authority=a",
        ":path=/ :scheme=http :authority=a",
        HEAD + " :method=GET",
        HEAD + " x=y :protocol=websocket",
        HEAD + " :protocol=websocket",
        HEAD + " :status=200",
        HEAD + " X=y",
        HEAD + " a:b=y",
        HEAD + " =y",
        HEAD + " x=~y",
        HEAD + " x=y~",
        HEAD + " x=a\rb",
        HEAD + " x=a\nb",
        HEAD + " x=a\0b",
        HEAD + " connection=close",
        HEAD + " upgrade=h2c",
        HEAD + " keep-alive=5",
        HEAD + " proxy-connection=close",
        HEAD + " transfer-encoding=chunked",
        HEAD + " te=gzip",
        HEAD + " host=other",
        HEAD + " host=shop:80 host=shop:80",
        HEAD + " content-length=1 content-length=1",
        HEAD + " content-length=-1",
        HEAD + " content-length=+1",
        "x=y " + HEAD,
        HEAD.replace("/open?a=b", "open"),
        HEAD.replace("/open?a=b", ""),
        HEAD.replace("/open?a=b", "/a~b"),
        HEAD.replace("/open?a=b", "/a\x80"),
        HEAD.replace("/open?a=b", "*"),
        HEAD.replace("Shop:80", ""),
        HEAD.replace("Shop:80", "user@shop"),
        HEAD.replace("http", "ftp"),
        HEAD.replace("GET", "G~T"),
        HEAD.replace("GET", "CONNECT"),
        ":method=CONNECT host=a",
    ],
)
def test_what_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        request.read(block(text))
    with pytest.raises(Malformed):
        request.Reader().read(block(text))


def test_a_short_block_of_long_fields_is_not_too_short_to_be_too_long() -> None:
    many = block(HEAD) + bytes([0x80 | 16]) * 200  # accept-encoding: gzip, deflate
    assert len(request.read(many).fields) >= 200
    with pytest.raises(hpack.TooLarge):
        request.read(many, 8 << 10)


def test_more_fields_than_anybody_needs() -> None:
    for text in (HEAD + " x=y" * hpack.MAX_FIELDS, HEAD + " x=" + "y" * 65536):
        with pytest.raises(hpack.TooLarge):
            request.read(block(text))


LINES = st.sampled_from(
    [
        HEAD + " te=trailers traceparent=%s x=y",
        HEAD + " te=trailers traceparent=%s grpc-timeout=%s x=y",
        HEAD + " te=trailers x=y",
        HEAD + " te=trailers traceparent=%s x=z content-length=5",
        HEAD.replace("open", "shut") + " te=trailers traceparent=%s x=y",
        ":method=GET :scheme=http :path=/%s :authority=a",
        HEAD + " te=trailers x=y x=y x=y traceparent=%s",
        HEAD + " te=trailers host=%s x=y",
        HEAD + " te=trailers :path=/%s x=y",
        HEAD + " te=trailers connection=%s x=y",
    ]
)
BLOCKS = st.builds(lambda line, value: block(line.replace("%s", value)), LINES, st.sampled_from(["a", "bc", "b\n", ""]))


def outcome(read: object, given: bytes) -> object:
    try:
        assert callable(read)
        return read(given)
    except (Malformed, Broken, hpack.TooLarge) as error:
        return type(error)


@given(st.lists(st.tuples(BLOCKS, st.integers(0, 200), st.binary(max_size=3)), max_size=12))
def test_a_reader_reads_what_is_read_in_full(blocks: list[tuple[bytes, int, bytes]]) -> None:
    reader = request.Reader()
    for each, at, noise in blocks:
        for tried in (each, each[1:], each[:at] + noise + each[at + len(noise) :], each[:at] + noise + each[at:]):
            request._kept.clear()
            assert outcome(reader.read, tried) == outcome(request.read, tried)


@pytest.mark.parametrize("middle", [b"\x20", b"\x20" + block("t=3")[1:], block("host=other")[1:], block(":path=/")[1:]])
def test_what_is_between_the_ends_of_blocks_that_are_alike_is_read_as_strictly(middle: bytes) -> None:
    reader = request.Reader()
    request._kept.clear()
    start, end = block(HEAD + " te=trailers")[1:], block("x=y")[1:]
    for value in ("t=1", "t=2"):
        reader.read(start + block(value)[1:] + end)
    assert reader._alike is not None and reader._alike.start == start
    with pytest.raises((Malformed, Broken)):
        reader.read(start + middle + end)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (":status=200 x=y", (200, None)),
        (":status=200 content-type=application/grpc grpc-status=12", (200, 12)),
        ("grpc-status=0 grpc-message=", (0, 0)),
        ("grpc-status=x", (0, None)),
    ],
)
def test_what_an_answer_says(text: str, found: tuple[int, int | None]) -> None:
    assert answer.read(block(text)) == found


@pytest.mark.parametrize("text", ["x=y :status=200", ":status=200 :status=200", ":status=20", ":path=/", "X=y"])
def test_an_answer_that_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        answer.read(block(text))
