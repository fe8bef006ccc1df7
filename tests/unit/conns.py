"""Connections as the kernel's programs would record them."""

from typing import Any

from loader import abi


def conn(**given: Any) -> abi.Conn:
    """Return a connection's record, zero but for these fields; a pair is a field of its two ends."""
    left, right = ({name: v[side] for name, v in given.items() if isinstance(v, tuple)} for side in (0, 1))
    whole = {name: v for name, v in given.items() if not isinstance(v, tuple)}
    return abi.Conn.blank(end=(abi.End.blank(**left), abi.End.blank(**right)), **whole)
