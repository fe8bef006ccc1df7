"""Random frames of HTTP/2 to a server that is read by hand and by the reference decoder of header blocks.

The server never sees a request that the rule does not allow, nor a frame of a stream that no such request opened.
"""

import random

import hpack as reference

from control.model import HttpRule, L7Rules
from l7proxy.exchange import Exchange
from l7proxy.http import Session
from l7proxy.policy.book import Policy

POLICY = Policy([(L7Rules(http=(HttpRule(path="/open"),)),)])
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, CONTINUATION = 0, 1, 4, 9
CASES = 1500


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Recorder:
    """A server: keeps which streams were opened with which path, and answers each."""

    def __init__(self) -> None:
        self._decoder = reference.Decoder()
        self._held, self._block, self._greeted = b"", b"", False
        self.paths: dict[int, bytes] = {}

    def hears(self, data: bytes) -> bytes:
        """Return what it answers; AssertionError for what should not be there."""
        answer = b""
        self._held += data
        if not self._greeted and len(self._held) >= len(PREFACE):
            assert self._held.startswith(PREFACE)
            self._held, self._greeted = self._held[len(PREFACE) :], True
            answer = frame(SETTINGS, 0, 0, b"")
        while self._greeted and len(self._held) >= 9 + (size := int.from_bytes(self._held[:3], "big")):
            kind, flags = self._held[3], self._held[4]
            stream = int.from_bytes(self._held[5:9], "big")
            answer += self._takes(kind, flags, stream, self._held[9 : 9 + size])
            self._held = self._held[9 + size :]
        return answer

    def _takes(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind in (HEADERS, CONTINUATION):
            if kind == HEADERS:
                payload = payload[1 : len(payload) - payload[0]] if flags & 8 else payload
                payload = payload[5:] if flags & 32 else payload
            self._block += payload
            if not flags & 4:
                return b""
            fields, self._block = self._decoder.decode(self._block, raw=True), b""
            paths = [value for name, value in fields if name == b":path"]
            if stream in self.paths:
                assert not paths, "a second request on one stream"  # else they are trailers
                return b""
            assert paths == [b"/open"], f"not allowed: {paths}"
            self.paths[stream] = paths[0]
            return frame(HEADERS, 5, stream, b"\x88")
        if stream and kind != 8 and kind != 3 and kind != 2:
            assert stream in self.paths, f"a frame of kind {kind} on stream {stream}, which nobody opened"
        return b""


def said(chance: random.Random) -> bytes:
    encoder = reference.Encoder()
    out = [PREFACE, frame(SETTINGS, 0, 0, b"")]
    stream = 1
    for _ in range(chance.randint(1, 8)):
        path = chance.choice((b"/open", b"/open", b"/secret"))
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
        if not chance.randrange(4):
            fields.append(chance.choice(((b":path", b"/secret"), (b"host", b"b"), (b"X", b"a"), (b"x", b"a\r\nb"))))
        block, flags = encoder.encode(fields), chance.choice((0, 1))
        cut = chance.choice((len(block), len(block), chance.randrange(len(block))))
        whole = cut == len(block)
        out.append(frame(HEADERS, flags | 4 * whole, stream, block[:cut]))
        if not whole:
            out.append(frame(CONTINUATION, 4, stream, block[cut:]))
        if not flags:
            out.append(frame(DATA, 1, stream, b"body"))
        stream += 2
    if chance.randrange(2):
        kind, at = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77)), chance.choice((0, 1, 2, 3, 5, 99))
        size = chance.choice((0, 1, 4, 5, 6, 8))
        out.insert(chance.randint(1, len(out)), frame(kind, chance.randrange(256), at, chance.randbytes(size)))
    whole_said = bytearray(b"".join(out))
    for _ in range(chance.choice((0, 0, 1, 3))):
        whole_said[chance.randrange(len(PREFACE), len(whole_said))] = chance.randrange(256)
    return bytes(whole_said)


def test_random_frames_show_the_server_only_what_was_checked() -> None:
    passed = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        data, told, server = said(chance), list[Exchange](), Recorder()
        session, step = Session(POLICY.decide, told.append), chance.choice((1, 7, 100, 1 << 16))
        try:
            for at in range(0, len(data), step):
                if session.is_over or session.is_broken:
                    break
                session.from_client(data[at : at + step])
                while session.to_server:
                    got = b"".join(session.to_server)
                    session.to_server.clear()
                    if answer := server.hears(got):
                        session.from_server(answer)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {data.hex()}: {error!r}") from error
        passed += len(server.paths)
    assert passed > CASES  # it is not that nothing goes through
