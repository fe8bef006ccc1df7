"""Policy entries that send connections to the node's L7 proxy, which this version does not have.

All that is said of it is here, and goes with the version that has one: the places that ask name this module.
"""

from collections.abc import Iterable

from control.flow.summary import counted
from loader import abi


def entries(policy: Iterable[tuple[abi.PolicyKey, abi.PolicyValue]]) -> int:
    """Return how many entries that are enforced ask for the proxy; the kernel refuses what they match."""
    return sum(bool(value.present) and value.verdict == abi.Verdict.PROXY for _, value in policy)


def word(count: int) -> str:
    """Return what that means to whom it meets."""
    need, their = ("need", "their") if count != 1 else ("needs", "its")
    return (
        f"{counted(count, 'entry', 'entries')} {need} the node proxy, which this version does not have: "
        f"{their} connections are refused"
    )


def brief(count: int) -> str:
    return f"{counted(count, 'L7 entry', 'L7 entries')} REFUSED"
