"""The server's name that a TLS client asks for: read from its ClientHello, however many records it is cut into.

    found = Hello().feed(data)     # None: more bytes are needed

RFC 8446, 4.1.2 (ClientHello) and 5.1 (records); RFC 6066, 3 (server_name).
"""

MAX_HELLO = 64 << 10  # bytes of the message; browsers' with post-quantum keys have about two thousand
_MAX_RECORD = 16 << 10
_CLIENT_HELLO = 1
_SERVER_NAME, _HOST_NAME = 0, 0


class NotAHello(ValueError):
    """The bytes are no ClientHello; the text says why, for the record."""


class Hello:
    """Reads a ClientHello while it comes, each byte once. `data`: all that has come."""

    __slots__ = ("_at", "_left", "_message", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self._at = self._left = 0  # what has been looked at, and what has not come of the record there
        self._message = bytearray()

    def feed(self, data: bytes) -> str | None:
        """Return the name in lower case, "" if the client names none, None if its hello has not come whole yet.

        Raises NotAHello, also for a name that is no host name, and for more bytes than MAX_HELLO.
        """
        self.data += data
        message = self._message
        while len(message) < (want := self._want()):
            if not self._left and not self._record():
                return None
            part = self.data[self._at : self._at + self._left]
            if not part:
                return None
            self._at += len(part)
            self._left -= len(part)
            message += part
        return _name(_Reader(bytes(message[4:want])))

    def _record(self) -> bool:
        """Go into the record that begins here; False if its header has not come whole yet."""
        header = bytes(self.data[self._at : self._at + 5])
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise NotAHello("it does not begin with a handshake of TLS")
        if len(header) < 5:
            return False
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _MAX_RECORD:
            raise NotAHello(f"a record has {length} bytes (allowed: 1 to {_MAX_RECORD})")
        self._at += 5
        self._left = length
        return True

    def _want(self) -> int:
        """Return how long the message is with its head, as far as it has said so."""
        head = self._message[:4]
        if len(head) < 4:
            return 4
        if head[0] != _CLIENT_HELLO:
            raise NotAHello("its first message is no ClientHello")
        want = 4 + int.from_bytes(head[1:], "big")
        if want > MAX_HELLO:
            raise NotAHello(f"the ClientHello is longer than {MAX_HELLO} bytes")
        return want


def server_name(data: bytes) -> str | None:
    """Return what `Hello.feed` says of these bytes alone."""
    return Hello().feed(data)


class _Reader:
    """Reads fields with their lengths before them; NotAHello where one is cut short."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def is_done(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise NotAHello("a field is longer than what it is in")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Read what has its length before it, in so many bytes."""
        return self.take(self.number(size))


def _name(hello: _Reader) -> str:
    hello.take(2 + 32)  # version and random
    hello.vector(1)  # session
    hello.vector(2)  # ciphers
    hello.vector(1)  # compressions
    if hello.is_done:
        return ""
    extensions = _Reader(hello.vector(2))
    if not hello.is_done:
        raise NotAHello("bytes follow the extensions")
    found: list[bytes] = []
    while not extensions.is_done:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            found.append(content)
    if len(found) > 1:
        raise NotAHello("there is more than one server_name")
    return _host_name(_Reader(found[0])) if found else ""


def _host_name(extension: _Reader) -> str:
    names = _Reader(extension.vector(2))
    if not extension.is_done:
        raise NotAHello("bytes follow the server name")
    kind, name = names.number(1), names.vector(2)
    # Others take the last of several, or the first.
    if kind != _HOST_NAME or not names.is_done:
        raise NotAHello("the server_name is not one host name")
    if not name or len(name) > 255 or not all(0x21 <= byte <= 0x7E for byte in name):
        raise NotAHello("the server's name is not printable ASCII of up to 255 characters")
    return name.decode().lower().removesuffix(".")
