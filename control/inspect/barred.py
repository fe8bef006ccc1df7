"""Pods of this node that are kept off the short cut for what their programs did (bpf/trace.c)."""

from loader import abi, btf, compiler
from loader.maps import Maps


def endpoints(opened: Maps) -> dict[int, int]:
    """Return the AccelReasons by endpoint. To ask FIONREAD bars nobody where the kernel can answer it."""
    found = {key.id: value.reason for key, value in opened.caught.items()}
    # The kernel is asked only where it matters: that takes as long as all the rest.
    if abi.AccelReason.COUNTS in found.values() and compiler.fionread_counts(btf.Btf.of_kernel()):
        return {id: reason for id, reason in found.items() if reason != abi.AccelReason.COUNTS}
    return found
