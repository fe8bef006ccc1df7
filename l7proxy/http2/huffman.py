"""HPACK's Huffman code, read a byte at a time (RFC 7541, 5.2 and appendix B)."""

from l7proxy.http2.frames import Broken, Code

# Bits of each octet's code, and of the end mark's. The code is canonical: the lengths say all.
_LENGTHS = """
    13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
    6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
    13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
    15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28
    20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
    22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
    26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
    20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26
    30
"""
_END = 256  # the mark; nobody may send it

# By the next byte: the row to go on with, and the octets that were read. Empty until it is first needed.
_Row = list[tuple["_Row", bytes]]


def _tree() -> list[list[int]]:
    """Return the code's tree: a node is where 0 and where 1 lead, to another node or to ~octet."""
    nodes, code, before = [[0, 0]], 0, 0
    for length, octet in sorted((int(length), octet) for octet, length in enumerate(_LENGTHS.split())):
        code <<= length - before
        before = length
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not nodes[node][bit]:
                nodes.append([0, 0])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = ~octet
        code += 1
    return nodes


_NODES = _tree()


_ROWS: list[_Row] = [[] for _ in _NODES]
_DEAD: _Row = []
_DEAD += [(_DEAD, b"")] * 256


def _fill(row: _Row) -> None:
    node = next(node for node, each in enumerate(_ROWS) if each is row)
    row += [_step(node, byte) for byte in range(256)]


def _step(node: int, byte: int) -> tuple[_Row, bytes]:
    read = bytearray()
    for shift in range(7, -1, -1):
        node = _NODES[node][byte >> shift & 1]
        if node == ~_END:
            return _DEAD, b""
        if node < 0:
            read.append(~node)
            node = 0
    return _ROWS[node], bytes(read)


def _ends() -> frozenset[int]:
    """Return the rows (by identity) where a string may end: up to seven bits into the end mark."""
    nodes = [0]
    for _ in range(7):
        nodes.append(_NODES[nodes[-1]][1])
    return frozenset(id(_ROWS[node]) for node in nodes)


_ENDS = _ends()


def decode(data: bytes) -> bytes:
    """Return the text, at most 8/5 as long; raises Broken."""
    row = _ROWS[0]
    read: list[bytes] = []
    add = read.append
    for byte in data:
        try:
            row, octets = row[byte]
        except IndexError:
            _fill(row)
            row, octets = row[byte]
        add(octets)
    if id(row) not in _ENDS:
        raise Broken(Code.COMPRESSION_ERROR, "a string is not in the Huffman code")
    return b"".join(read)
