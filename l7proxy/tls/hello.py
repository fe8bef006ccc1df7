"""The server's name that a TLS client asks for: read from its ClientHello, however many records it is cut into.

    found = server_name(data)      # None: more bytes are needed

RFC 8446, 4.1.2 (ClientHello) and 5.1 (records); RFC 6066, 3 (server_name).
"""

MAX_HELLO = 64 << 10  # bytes of the message; browsers' with post-quantum keys have about two thousand
_MAX_RECORD = 16 << 10
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _HOST_NAME = 0, 0


class NotAHello(ValueError):
    """The bytes are no ClientHello; the text says why, for the record."""


def server_name(data: bytes) -> str | None:
    """Return the name in lower case, "" if the client names none, None if its hello has not come whole yet.

    Raises NotAHello, also for a name that is no host name, and for more bytes than MAX_HELLO.
    """
    message = _message(data)
    return None if message is None else _name(_Reader(message))


def _message(data: bytes) -> bytes | None:
    """Return the hello's body, put together from its records; None if it is not whole."""
    parts: list[bytes] = []
    have, want, at = 0, 4, 0
    while have < want:
        header = data[at : at + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise NotAHello("it does not begin with a handshake of TLS")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _MAX_RECORD:
            raise NotAHello(f"a record has {length} bytes (allowed: 1 to {_MAX_RECORD})")
        part = data[at + 5 : at + 5 + length]
        parts.append(part)
        have += len(part)
        at += 5 + length
        if want == 4 and have >= 4:
            head = b"".join(parts)[:4]
            if head[0] != _CLIENT_HELLO:
                raise NotAHello("its first message is no ClientHello")
            want += int.from_bytes(head[1:], "big")
            if want > MAX_HELLO:
                raise NotAHello(f"the ClientHello is longer than {MAX_HELLO} bytes")
        if len(part) < length and have < want:
            return None
    return b"".join(parts)[4:want]


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
