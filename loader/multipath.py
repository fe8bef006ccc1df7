"""Multipath TCP: has its sockets end with the TCP connections that are reset under them.

A program's MPTCP socket stands on subflows, TCP sockets of the kernel's own, and only those can be reset (as of kernel
6.18). One that has lost its last subflow waits for another, a minute by default, and its program hears nothing.
net.mptcp.close_timeout of its network namespace says how long, so that is 0 for the moment of a reset. Kernels without
it (6.1, say) do not let themselves be hurried.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PROTOCOL = 262  # IPPROTO_MPTCP
_CLOSE_TIMEOUT = Path("/proc/sys/net/mptcp/close_timeout")
_WAIT_S, _LOOK_S = 0.3, 0.002  # a worker of the kernel does it, in some milliseconds


@contextlib.contextmanager
def hurried(over: Callable[[], AbstractSet[T]], opened: Callable[[], AbstractSet[T]]) -> Iterator[None]:
    """Have those MPTCP sockets end that lose their last subflow in the `with` block, in the calling thread's network
    namespace. `over` returns those that stand on the subflows that are reset there; `opened` those that are open.
    Waits, for a moment at most, until none of the former is among the latter.
    """
    found = opened()
    named = over() & found if found else found  # to look at all of TCP is dear, and few have any of MPTCP
    if not named:
        yield
        return
    before = _exchange("0")
    try:
        yield
        end = time.monotonic() + _WAIT_S
        while before and not named.isdisjoint(opened()) and time.monotonic() < end:
            time.sleep(_LOOK_S)
    finally:
        if before:
            _exchange(before)


def _exchange(seconds: str) -> str:
    """Set the time; return what it was, nothing where it cannot be set."""
    with contextlib.suppress(OSError):
        before = _CLOSE_TIMEOUT.read_text().strip()
        _CLOSE_TIMEOUT.write_text(seconds)
        return before
    return ""
