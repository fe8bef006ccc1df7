"""Which filters shape, by what the kernel lists of them."""

import struct

import pytest

from loader import queues


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def listed(kind: bytes, *options: bytes) -> bytes:
    """Return a filter as RTM_NEWTFILTER has it: nlmsghdr, tcmsg, its kind and its options."""
    return bytes(36) + attribute(1, kind + b"\0") + attribute(2, b"".join(options))


def action(kind: bytes, options: bytes = b"") -> bytes:
    return attribute(1, kind + b"\0") + attribute(4, b"statistics") + attribute(2, options)


def mirred(how: int) -> bytes:
    return action(b"mirred", attribute(2, struct.pack("=IIiiiiI", 1, 0, 4, 1, 1, how, 7)))


U32_POLICE, U32_ACT, MATCHALL_ACT, BPF_NAME = 6, 7, 2, 7
OUT, COPY_OUT, IN, COPY_IN = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("told", "shapes"),
    [
        (listed(b"u32", attribute(U32_ACT, attribute(1, mirred(OUT)))), True),
        (listed(b"u32", attribute(U32_ACT, attribute(1, mirred(IN)))), True),
        (listed(b"u32", attribute(U32_ACT, attribute(1, mirred(COPY_OUT)))), False),
        (listed(b"matchall", attribute(MATCHALL_ACT, attribute(1, mirred(COPY_IN)) + attribute(2, mirred(OUT)))), True),
        (listed(b"matchall", attribute(MATCHALL_ACT, attribute(1, action(b"police")))), True),
        (listed(b"matchall", attribute(MATCHALL_ACT, attribute(1, action(b"gact")))), False),
        (listed(b"u32", attribute(U32_POLICE, b"rate")), True),
        (listed(b"bpf", attribute(U32_POLICE, b"1234"), attribute(BPF_NAME, b"/pins/police\0")), False),
    ],
)
def test_a_filter_that_shapes_has_an_action_that_does(told: bytes, shapes: bool) -> None:
    assert queues.is_shaper(told) == shapes
    for length in range(len(told)):
        queues.is_shaper(told[:length])  # a kernel that says less is no reason to fail
