"""Names in messages: one canonical text for each name, and decompression that ends (RFC 1035, 3.1 and 4.1.4).

The text is what rules are held against: lower case, no dot at the end, "" for the root. A byte that could be taken for
something else, such as a dot inside a label, is written as a backslash and three digits, which no rule can name.
"""

import re

FORMERR = 1
HEADER_SIZE = 12

_MAX_NAME = 255  # bytes, with the lengths of its labels
_MAX_STEPS = 1 << 15  # labels and pointers of all names of one message: a name can be short and point far
_POINTER = 0xC0
_PLAIN = re.compile(rb"[-_0-9A-Za-z.]*")
_SHOWN = frozenset(range(0x21, 0x7F)) - frozenset(b".\\")


class Malformed(ValueError):
    """A message that nobody should act on. `rcode`: what its sender is told if it is a query, None: nothing."""

    def __init__(self, why: str, rcode: int | None = FORMERR) -> None:
        super().__init__(why)
        self.rcode = rcode


class Names:
    """Reads the names of one message. `known`: texts of names by where they begin."""

    __slots__ = ("_data", "_known", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, str] = {}
        self._left = _MAX_STEPS

    def read(self, at: int) -> tuple[str, int]:
        """Return the text of the name at `at` and where it ends."""
        data = self._data
        target = -1
        if data[at : at + 1] >= b"\xc0" and at + 1 < len(data):
            target = (data[at] & 0x3F) << 8 | data[at + 1]
            known = self._known.get(target)
            if known is not None:  # most records of an answer have the name that was asked
                return known, at + 2
        labels, end = self._labels(at)
        text = _text(labels)
        self._known[at if target < 0 else target] = text
        return text, end

    def _labels(self, at: int) -> tuple[list[bytes], int]:
        data, size = self._data, len(self._data)
        labels: list[bytes] = []
        start, end, total = at, 0, 1
        while True:
            self._left -= 1
            if self._left < 0:
                raise Malformed(f"its names have more than {_MAX_STEPS} parts")
            if at >= size:
                raise Malformed("a name is cut short")
            length = data[at]
            if not length:
                return labels, end or at + 1
            if length < 64:
                total += length + 1
                if total > _MAX_NAME:
                    raise Malformed(f"a name is longer than {_MAX_NAME} bytes")
                labels.append(data[at + 1 : at + 1 + length])
                at += 1 + length
                continue
            if length < _POINTER or at + 1 >= size:
                raise Malformed("a name has a label of an unknown kind, or is cut short")
            end = end or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
            if not HEADER_SIZE <= at < start:  # always further back than where this part began: no loop
                raise Malformed("a name does not point back")
            start = at


def after(data: bytes, at: int) -> int:
    """Return where the name at `at` ends, without a look at where it points."""
    size = len(data)
    while at < size:
        length = data[at]
        if not length:
            return at + 1
        if length >= _POINTER:
            return at + 2
        if length >= 64:
            raise Malformed("a name has a label of an unknown kind")
        at += 1 + length
    raise Malformed("a name is cut short")


def _text(labels: list[bytes]) -> str:
    joined = b".".join(labels)
    if _PLAIN.fullmatch(joined) and joined.count(b".") == len(labels) - 1:
        return joined.decode().lower()
    return ".".join(map(_escaped, labels))


def _escaped(label: bytes) -> str:
    return "".join(chr(byte) if byte in _SHOWN else f"\\{byte:03}" for byte in label.lower())
