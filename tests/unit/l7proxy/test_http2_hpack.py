"""Header blocks, held against an independent implementation, and what is no header block."""

import string

import hpack as reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.http2 import hpack, huffman
from l7proxy.http2.frames import Broken, Code
from l7proxy.http2.hpack import Field

NAMES = st.text(string.ascii_lowercase + "-", min_size=1, max_size=200).map(str.encode)
COMMON = st.sampled_from([b":method", b":path", b":authority", b"te", b"cookie", b"traceparent", b"content-type"])
VALUES = st.one_of(st.sampled_from([b"", b"GET", b"/", b"trailers"]), st.binary(max_size=300))
FIELDS = st.lists(st.tuples(COMMON | NAMES, VALUES), max_size=20)
# RFC 7541, C.4: three requests with a table, in Huffman's code.
EXAMPLES = [
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", b":method GET,:scheme http,:path /,:authority www.example.com"),
    (
        "828684be5886a8eb10649cbf",
        b":method GET,:scheme http,:path /,:authority www.example.com,cache-control no-cache",
    ),
    (
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        b":method GET,:scheme https,:path /index.html,:authority www.example.com,custom-key custom-value",
    ),
]


def as_written(fields: list[Field], table: int, huffman: bool, encoder: reference.Encoder | None = None) -> bytes:
    """Return a block that the reference has written."""
    encoder = encoder or reference.Encoder()
    if encoder.header_table_size != table:
        encoder.header_table_size = table
    return encoder.encode(fields, huffman=huffman)


def read(block: bytes) -> list[Field]:
    return [hpack.field(piece) for piece in hpack.pieces(block)]


def test_the_examples_of_the_rfc() -> None:
    decoder = hpack.Decoder()
    for block, fields in EXAMPLES:
        wanted = [tuple(field.split(b" ")) for field in fields.split(b",")]
        assert decoder.decode(bytes.fromhex(block)) == wanted


@given(FIELDS, st.booleans())
def test_what_the_reference_writes_without_a_table(fields: list[Field], coded: bool) -> None:
    block = as_written(fields, 0, coded)
    assert read(block) == fields
    assert hpack.Decoder().decode(block) == fields


@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([4096, 4096, 4096, 200, 0])), max_size=8))
def test_what_the_reference_writes_with_a_table(blocks: list[tuple[list[Field], bool, int]]) -> None:
    encoder, decoder = reference.Encoder(), hpack.Decoder()
    for fields, coded, table in blocks:
        assert decoder.decode(as_written(fields, table, coded, encoder)) == fields


@given(st.lists(FIELDS, max_size=4))
def test_the_reference_reads_what_we_write(blocks: list[list[Field]]) -> None:
    decoder = reference.Decoder()
    for fields in blocks:
        assert list(decoder.decode(hpack.encode(fields), raw=True)) == fields
        assert read(hpack.encode(fields)) == fields
    assert not decoder.header_table.dynamic_entries


@given(st.binary(max_size=400))
def test_huffman_both_ways(text: bytes) -> None:
    coded = reference.huffman.HuffmanEncoder(
        reference.huffman_constants.REQUEST_CODES, reference.huffman_constants.REQUEST_CODES_LENGTH
    ).encode(text)
    assert huffman.decode(coded) == text
    if coded:
        with pytest.raises(Broken):
            huffman.decode(coded + b"\xff")  # RFC 7541, 5.2: more than seven bits of padding


@pytest.mark.parametrize("coded", ["ff", "ffffffff", "3fffffff", "1c64ff"])
def test_what_is_not_in_the_code(coded: str) -> None:
    with pytest.raises(Broken):
        huffman.decode(bytes.fromhex(coded))


@pytest.mark.parametrize(
    "block",
    [
        "80",  # an entry 0
        "be",  # one of a table that is empty
        "ff00",  # the same, in a number of two bytes
        "7f00 01 61",  # a name from there
        "82 20",  # an update after a field
        "20 20 20",  # three of them
        "00 01 61",  # no value
        "00 05 61 62",  # a name that is cut short
        "41 05 61",  # a value that is cut short
        "40",
        "00 7f ff ff ff ff ff 01",  # a number without end
        "3f e2 1f",  # an update above the limit
        "00 81 ff 00",  # a name that is not in Huffman's code
    ],
)
def test_what_is_no_block(block: str) -> None:
    data = bytes.fromhex(block)
    for reader in (read, hpack.Decoder().decode):
        with pytest.raises(Broken) as caught:
            reader(data)
        assert caught.value.code == Code.COMPRESSION_ERROR


def test_a_table_that_is_kept_though_it_was_to_be_given_up() -> None:
    decoder = hpack.Decoder()
    decoder.limit = 0
    with pytest.raises(Broken):
        decoder.decode(b"\x82")
    decoder = hpack.Decoder()
    decoder.limit = 0
    assert decoder.decode(b"\x20\x82") == [(b":method", b"GET")]


def test_an_entry_that_does_not_fit_empties_the_table() -> None:
    decoder = hpack.Decoder()
    small, large = b"\x40\x01a\x01b", b"\x40\x01a\x7f" + b"\xa1\x1f" + b"x" * 4128
    assert decoder.decode(small + b"\xbe") == [(b"a", b"b")] * 2
    assert decoder.decode(large) == [(b"a", b"x" * 4128)]
    with pytest.raises(Broken):
        decoder.decode(b"\xbe")


def test_a_bomb_is_told_of_when_the_table_is_up_to_date() -> None:
    decoder = hpack.Decoder()
    stored = b"\x40\x01a\x7f" + b"\x89\x1e" + b"x" * 3976
    with pytest.raises(hpack.TooLarge):
        decoder.decode(stored + b"\xbe" * 60000 + b"\x40\x01c\x01d")
    with pytest.raises(hpack.TooLarge):
        decoder.decode(b"\x82" * (hpack.MAX_FIELDS + 1))
    assert decoder.decode(b"\xbe\x82") == [(b"c", b"d"), (b":method", b"GET")]


@given(st.binary(max_size=200))
def test_anything_is_a_block_or_broken(noise: bytes) -> None:
    """What is read without a table is what is read with one that nothing leans on."""
    try:
        fields = read(noise)
    except Broken:
        return
    assert hpack.Decoder().decode(noise) == fields


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_a_decoder_raises_nothing_else(blocks: list[bytes]) -> None:
    decoder = hpack.Decoder()
    for block in blocks:
        try:
            decoder.decode(block)
        except (Broken, hpack.TooLarge):
            return
        assert 0 <= decoder._used <= decoder.size <= hpack.TABLE
