"""The calls that C cannot write: each is found, nothing else is touched."""

import struct

from loader import loads

_MARKED = struct.pack("=BBhi", 0x85, 0, 0, loads.CALL)
_OTHERS = (
    struct.pack("=BBhi", 0x85, 0, 0, 5),  # a helper
    struct.pack("=BBhi", 0x85, 1 << 4, 0, loads.CALL),  # a call within the program, that far away
    struct.pack("=BBhi", 0xB7, 0, 0, loads.CALL),  # the number as a number
    struct.pack("=BBhi", 0x18, 1, 0, 0),
)


def test_a_marked_call_becomes_one_of_the_kernel_function() -> None:
    mended = loads.mend(b"".join(_OTHERS) + _MARKED + _OTHERS[0], 4711)
    assert mended == b"".join(_OTHERS) + struct.pack("=BBhi", 0x85, 2 << 4, 0, 4711) + _OTHERS[0]


def test_what_has_no_marked_call_stays_as_it_is() -> None:
    assert not loads.is_marked(b"".join(_OTHERS))
    assert loads.mend(b"".join(_OTHERS), 4711) == b"".join(_OTHERS)
    assert loads.is_marked(_OTHERS[0] + _MARKED)


def test_a_mark_across_two_instructions_is_none() -> None:
    shifted = b"\0" * 4 + _MARKED + b"\0" * 4
    assert not loads.is_marked(shifted)
    assert loads.mend(shifted, 1) == shifted
