"""Loads from kernel memory without a call.

From 6.17 on `bpf_rdonly_cast(address, 0)` names any address read-only memory, and a program may then load from it with
one instruction, which gives 0 where nothing is mapped; the bpf_probe_read_kernel it stands for costs ten times as much.
It is a kernel function and no helper, so what bcc makes of C can only call a number that no helper has, and the
instructions are mended before they are loaded.
"""

import os
import struct

from loader import bpf, btf

CALL = 0x7D5A11  # the number bpf/kernel.h calls
FUNCTION = "bpf_rdonly_cast"
_CALL_CODE, _KERNEL_FUNCTION = 0x85, 2  # BPF_JMP | BPF_CALL; BPF_PSEUDO_KFUNC_CALL in the source register
_SCHED_CLS = 3
_MARKED = struct.pack("=BBhi", _CALL_CODE, 0, 0, CALL)


def supported(kernel: btf.Btf) -> bool:
    """Return whether this kernel takes such a load, by loading a program with one; needs the right to load programs."""
    try:
        cast = kernel.function(FUNCTION)
    except KeyError:
        return False
    zero_type = struct.pack("=BBhi", 0xB7, 2, 0, 0)  # r2 = 0: of no type
    load = struct.pack("=BBhi", 0x79, 0, 0, 0)  # r0 = *(u64 *)(r0 + 0)
    address = bpf.call_helper(5) + struct.pack("=BBhi", 0xBF, 1, 0, 0)  # bpf_ktime_get_ns: any number; r1 = r0
    body = address + zero_type + mend(_MARKED, cast) + load + bpf.exit_with(0)
    try:
        os.close(bpf.load_program(_SCHED_CLS, body, 0, "sm_probe"))
    except OSError:
        return False
    return True


def is_marked(instructions: bytes) -> bool:
    """Return whether there is anything to mend."""
    return any(instructions[at : at + 8] == _MARKED for at in range(0, len(instructions), 8))


def mend(instructions: bytes, cast: int) -> bytes:
    """Return the instructions with each call of CALL made one of the kernel function with this BTF id."""
    call = struct.pack("=BBhi", _CALL_CODE, _KERNEL_FUNCTION << 4, 0, cast)
    pieces = (instructions[at : at + 8] for at in range(0, len(instructions), 8))
    return b"".join(call if piece == _MARKED else piece for piece in pieces)
