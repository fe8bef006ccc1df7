"""What SETTINGS become on their way, so that frames can go on as they came (RFC 9113, 6.5.2).

Neither side may keep a table for what it sends, so that each header block stands alone; none may send frames longer
than MAX_FRAME, and none may push. The client is told of no more streams than MAX_STREAMS. What is not KNOWN goes no
further: it might agree on something by which requests are read in another way, such as extended CONNECT (RFC 8441), or
gRPC's metadata of bytes that no other reader of headers takes (0xfe03).
"""

from l7proxy.http2 import frames
from l7proxy.http2.frames import HIGHEST, Broken, Code, Setting
from l7proxy.http2.limits import MAX_SETTINGS, MAX_STREAMS

KNOWN = frozenset((*Setting, 6, 9)) - {Setting.ENABLE_CONNECT_PROTOCOL}
# 6 is MAX_HEADER_LIST_SIZE; 9, of RFC 9218, says that nobody looks at priorities.


def for_server(payload: bytes) -> bytes:
    """Return the frame that takes the place of a client's; raises Broken."""
    said = _checked(payload)
    said.update({Setting.HEADER_TABLE_SIZE: 0, Setting.ENABLE_PUSH: 0})
    return frames.settings(said)


def for_client(payload: bytes, is_first: bool) -> bytes:
    """Return the frame that takes the place of a server's; raises Broken."""
    said = _checked(payload)
    said[Setting.HEADER_TABLE_SIZE] = 0
    if is_first or Setting.MAX_CONCURRENT_STREAMS in said:
        most = said.get(Setting.MAX_CONCURRENT_STREAMS, MAX_STREAMS)
        said[Setting.MAX_CONCURRENT_STREAMS] = min(most, MAX_STREAMS)
    return frames.settings(said)


def _checked(payload: bytes) -> dict[int, int]:
    if len(payload) > 6 * MAX_SETTINGS:
        raise Broken(Code.ENHANCE_YOUR_CALM, f"there are more than {MAX_SETTINGS} settings in one frame")
    said = frames.announced(payload)
    if said.get(Setting.INITIAL_WINDOW_SIZE, 0) > HIGHEST:
        raise Broken(Code.FLOW_CONTROL_ERROR, "the initial window is too large")
    if not frames.MAX_FRAME <= said.pop(Setting.MAX_FRAME_SIZE, frames.MAX_FRAME) < 1 << 24:
        raise Broken(Code.PROTOCOL_ERROR, "the largest frame is not one of 2^14 to 2^24-1 bytes")
    if said.get(Setting.ENABLE_PUSH, 0) > 1:
        raise Broken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
    return {each: value for each, value in said.items() if each in KNOWN}
