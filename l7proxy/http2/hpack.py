"""Header blocks: read strictly, written without leaning on what went before (RFC 7541).

A block that leans on no table can be judged alone and dropped alone. `pieces` and `field` read such blocks, `Decoder`
the ones before the other side has given up its table.
"""

import collections
from collections.abc import Iterable

from l7proxy.http2 import huffman
from l7proxy.http2.frames import Broken, Code

Field = tuple[bytes, bytes]

MAX_BLOCK = 64 << 10  # bytes as they come
MAX_LIST = 64 << 10  # bytes read from it, 32 more for each field (RFC 9113, 10.5.1)
MAX_FIELDS = 256
TABLE = 4096  # bytes, until something else is agreed on
_OVERHEAD = 32
_MAX_UPDATES = 2  # of a table's size, where a block begins: down and up again (RFC 7541, 4.2)

_TABLE = b"""
    :authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204
    :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,deflate
    accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control
    content-disposition content-encoding content-language content-length content-location content-range content-type
    cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since
    last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after
    server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate
"""
_STATIC: tuple[Field, ...] = (
    (b"", b""),  # there is no entry 0
    *((name, value.replace(b",", b", ")) for name, _, value in (entry.partition(b"=") for entry in _TABLE.split())),
)
_INDEX_OF = {entry: index for index, entry in reversed(list(enumerate(_STATIC)))}
_INDEX_OF_NAME = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC)))}

TO_NO_TABLE = b"\x20"  # the size update to 0, which may begin any block
_INDEXED, _NAMED, _NEW, _ELSE = range(4)


def _shape(byte: int) -> int:
    """Tell how a representation that begins with that byte goes on; _ELSE: numbers of several bytes, or no field."""
    if byte & 0x80:
        return _INDEXED if byte < 0xFF else _ELSE
    if byte in (0x00, 0x10, 0x40):
        return _NEW
    if byte & 0x40:
        return _NAMED if byte < 0x7F else _ELSE
    return _NAMED if byte < 0x20 and byte & 0x0F < 0x0F else _ELSE


_SHAPES = bytes(map(_shape, range(256)))


class TooLarge(ValueError):
    """A list of fields that is longer than anybody needs; its block was read to the end all the same."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the fields are more than {MAX_FIELDS}, or longer than {most} bytes")


def size(fields: Iterable[Field]) -> int:
    """Return how long a list of fields is, for the bound on it."""
    return sum(len(name) + len(value) + _OVERHEAD for name, value in fields)


def pieces(block: bytes) -> list[bytes]:
    """Cut a block that leans on no table into its fields, each as it came; raises Broken."""
    found: list[bytes] = []
    at, size = 0, len(block)
    try:
        while at < min(size, _MAX_UPDATES) and block[at] == 0x20:
            at += 1
        while at < size:
            shape = _SHAPES[block[at]]
            if shape == _INDEXED:
                end = at + 1
            elif shape == _NAMED and (length := block[at + 1] & 0x7F) < 0x7F:
                end = at + 2 + length
            elif (
                shape == _NEW
                and (length := block[at + 1] & 0x7F) < 0x7F
                and (after := block[at + 2 + length] & 0x7F) < 0x7F
            ):
                end = at + 3 + length + after
            else:
                end = _end(block, at)
            found.append(block[at:end])
            at = end
    except IndexError:
        at = -1
    if at != size:
        raise Broken(Code.COMPRESSION_ERROR, "a header block is cut short")
    return found


def field(piece: bytes) -> Field:
    """Read one of those pieces; raises Broken."""
    if piece[0] & 0x80:
        return _of_static(piece[0] & 0x7F)
    index, at = _integer(piece, 0, 0x3F if piece[0] & 0x40 else 0x0F)
    if index:
        name = _of_static(index)[0]
    else:
        name, at = _string(piece, at)
    return name, _string(piece, at)[0]


class Decoder:
    """Reads blocks of a side that may keep a table. `limit`: what it has agreed to; `size`: what it uses."""

    __slots__ = ("_entries", "_most", "_used", "limit", "size")

    def __init__(self, most: int = MAX_LIST) -> None:
        self._most = most
        self.limit = self.size = TABLE
        self._entries: collections.deque[Field] = collections.deque()
        self._used = 0

    def decode(self, block: bytes) -> list[Field]:
        """Return a block's fields; raises Broken, and TooLarge after the table has been brought up to date."""
        fields: list[Field] = []
        length = count = 0
        try:
            at = self._resized(block)
            while at < len(block):
                entry, at = self._field(block, at)
                count += 1
                length += len(entry[0]) + len(entry[1]) + _OVERHEAD
                if length <= self._most and count <= MAX_FIELDS:
                    fields.append(entry)
        except IndexError:
            raise Broken(Code.COMPRESSION_ERROR, "a header block is cut short") from None
        if count > len(fields):
            raise TooLarge(self._most)
        return fields

    def _resized(self, block: bytes) -> int:
        """Follow the size updates at the block's start and return where they end (RFC 7541, 4.2)."""
        at = 0
        for _ in range(_MAX_UPDATES):
            if at == len(block) or block[at] & 0xE0 != 0x20:
                break
            self.size, at = _integer(block, at, 0x1F)
            if self.size > self.limit:
                raise Broken(Code.COMPRESSION_ERROR, "a table is larger than what was agreed on")
            self._make_room(0)
        if self.size > self.limit:
            raise Broken(Code.COMPRESSION_ERROR, "a table was not made smaller as was agreed on")
        return at

    def _field(self, block: bytes, at: int) -> tuple[Field, int]:
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 0x7F)
            return self._entry(index), at
        if first & 0xE0 == 0x20:
            raise Broken(Code.COMPRESSION_ERROR, "a table's size changes in the middle of a block")
        index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if first & 0x40:
            self._add((name, value))
        return (name, value), at

    def _entry(self, index: int) -> Field:
        if index < len(_STATIC):
            return _of_static(index)
        if index - len(_STATIC) >= len(self._entries):
            raise Broken(Code.COMPRESSION_ERROR, "a field is in no table")
        return self._entries[index - len(_STATIC)]

    def _add(self, entry: Field) -> None:
        needed = len(entry[0]) + len(entry[1]) + _OVERHEAD
        self._make_room(needed)
        if needed <= self.size:  # RFC 7541, 4.4: one that does not fit empties the table, and that is all
            self._entries.appendleft(entry)
            self._used += needed

    def _make_room(self, needed: int) -> None:
        while self._entries and self._used + needed > self.size:
            name, value = self._entries.pop()
            self._used -= len(name) + len(value) + _OVERHEAD


def encode(fields: Iterable[Field]) -> bytes:
    """Return a block that leaves no trace in any table, and may take the place of any other.

    It begins by giving up the table: one that it stands for may have had to. Values are never to be indexed by anybody
    later (RFC 7541, 6.2.3), since nobody has kept which of them had been marked so.
    """
    parts = [TO_NO_TABLE]
    for name, value in fields:
        if index := _INDEX_OF.get((name, value), 0):
            parts.append(bytes((0x80 | index,)))
            continue
        index = _INDEX_OF_NAME.get(name, 0)
        parts.append(_number(index, 0x0F, 0x10))
        if not index:
            parts += (_number(len(name), 0x7F, 0), name)
        parts += (_number(len(value), 0x7F, 0), value)
    return b"".join(parts)


def _of_static(index: int) -> Field:
    if not 0 < index < len(_STATIC):
        raise Broken(Code.COMPRESSION_ERROR, "a field is in no table")
    return _STATIC[index]


def _number(value: int, mask: int, flags: int) -> bytes:
    if value < mask:
        return bytes((flags | value,))
    out, value = bytearray((flags | mask,)), value - mask
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Read a number (RFC 7541, 5.1) and return it and where it ends; IndexError if it is cut short."""
    value = block[at] & mask
    if value < mask:
        return value, at + 1
    for more in range(4):
        byte = block[at + 1 + more]
        value += (byte & 0x7F) << 7 * more
        if byte < 0x80:
            return value, at + 2 + more
    raise Broken(Code.COMPRESSION_ERROR, "a number in a header block is longer than five bytes")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise IndexError
    text = block[at:end]
    return (huffman.decode(text) if coded else text), end


def _end(block: bytes, at: int) -> int:
    """Return where a literal ends that has numbers of several bytes."""
    first = block[at]
    if first & 0x80 or first & 0xE0 == 0x20:
        raise Broken(Code.COMPRESSION_ERROR, "a block leans on a table that was given up")
    index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
    for _ in range(1 if index else 2):
        length, at = _integer(block, at, 0x7F)
        at += length
    return at
