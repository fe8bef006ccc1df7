"""Messages on a TCP connection, each with its length in two bytes before it (RFC 1035, 4.2.2; RFC 7766, 8)."""


class Splitter:
    """Cuts what comes into messages. What it holds is less than one message, so never more than 64 KiB."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a message has come that is not whole."""
        return not self._held

    def take(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole now; one without a byte is one too, for the reader to refuse."""
        held = self._held
        held += data
        out, at = [], 0
        while len(held) - at >= 2:
            end = at + 2 + int.from_bytes(held[at : at + 2], "big")
            if end > len(held):
                break
            out.append(bytes(held[at + 2 : end]))
            at = end
        del held[:at]
        return out


def framed(message: bytes) -> bytes:
    """Return what is sent on a connection for a message; no message is longer than 65,535 bytes."""
    if len(message) > 0xFFFF:
        raise ValueError(f"a message of {len(message)} bytes does not fit its length")
    return len(message).to_bytes(2, "big") + message
