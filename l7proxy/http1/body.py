"""Where the body of a message ends: by a length, by chunks, or with its connection. Nothing is kept of what passes.

`take(data, at)` returns how far the body goes from `at`; what is before that place may go on as it came. `is_done`
tells whether the body has ended there.
"""

import re

from l7proxy.http1.head import Malformed

_MAX_LINE = 4096  # bytes of a chunk's size line, with its extensions
_MAX_TRAILER = 16 << 10
# RFC 9112, 7.1: what follows a semicolon is ignored, but a CR or LF in it would end the line elsewhere for others.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
# In a trailer these would say what the head has said already (RFC 9110, 6.5.1).
_NOT_IN_TRAILER = re.compile(rb"(?im)^(content-length|transfer-encoding|host|trailer|connection|upgrade)[ \t]*:")


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def is_done(self) -> bool:
        return self.left == 0

    def take(self, data: bytes | bytearray, at: int) -> int:
        taken = min(self.left, len(data) - at)
        self.left -= taken
        return at + taken


class UntilClose:
    """A body that ends with its connection."""

    is_done = False

    def take(self, data: bytes | bytearray, at: int) -> int:
        return len(data)


class Chunked:
    """A body in chunks (RFC 9112, 7.1). A line that is not whole yet is not taken: give it again with what follows."""

    def __init__(self) -> None:
        self.is_done = False
        self._left = 0  # of the chunk, with the CRLF that ends it
        self._is_last = False

    def take(self, data: bytes | bytearray, at: int) -> int:
        """Raises Malformed."""
        size = len(data)
        while at < size and not self.is_done:
            if self._is_last:
                end = self._trailer(data, at)
            elif self._left > 2:
                end = min(size, at + self._left - 2)
                self._left -= end - at
            elif self._left:
                end = self._crlf(data, at)
            else:
                end = self._size(data, at)
            if end == at:
                break
            at = end
        return at

    def _crlf(self, data: bytes | bytearray, at: int) -> int:
        if data[at : at + 2] == b"\r\n":
            self._left = 0
            return at + 2
        if len(data) - at >= 2 or data[at] != 13:
            raise Malformed("a chunk does not end where its size says")
        return at

    def _size(self, data: bytes | bytearray, at: int) -> int:
        end = data.find(b"\n", at, at + _MAX_LINE) + 1
        if not end:
            if len(data) - at >= _MAX_LINE:
                raise Malformed(f"the size line of a chunk is longer than {_MAX_LINE} bytes")
            return at
        line = _SIZE.fullmatch(data, at, end)
        if line is None:
            raise Malformed("the size of a chunk is not a hexadecimal number on a line of its own")
        length = int(line[1], 16)
        self._is_last = length == 0
        self._left = length + 2 if length else 0
        return end

    def _trailer(self, data: bytes | bytearray, at: int) -> int:
        if data[at : at + 2] == b"\r\n":
            self.is_done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + _MAX_TRAILER) + 4
        if end < 4:
            if len(data) - at >= _MAX_TRAILER:
                raise Malformed(f"the trailer is longer than {_MAX_TRAILER} bytes")
            return at
        if not _TRAILER.fullmatch(data, at, end):
            raise Malformed("a line of the trailer is not NAME: VALUE")
        if _NOT_IN_TRAILER.search(data, at, end):
            raise Malformed("the trailer says again what the head has said")
        self.is_done = True
        return end


Body = Sized | UntilClose | Chunked


def of(length: int | None) -> Body:
    """Return the body that a head announces: of `length` bytes, in chunks (None), or until the end (-1)."""
    return Chunked() if length is None else UntilClose() if length < 0 else Sized(length)
