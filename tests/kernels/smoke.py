"""The least that a kernel must do: BTF, a compiled program, a map, cgroup v2, tracefs (`-m tests.kernels.smoke`)."""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from loader import headers

PROGRAM = r"""
#include <uapi/linux/bpf.h>
#include <uapi/linux/tcp.h>
BPF_HASH(seen, u32, u64, 16);
int sockops(struct bpf_sock_ops *ops) {
    u32 op = ops->op;
    u64 one = 1, *count = seen.lookup(&op);
    if (count) __sync_fetch_and_add(count, 1);
    else seen.update(&op, &one);
    return 1;
}
"""


def main() -> int:
    for path in ("/sys/kernel/btf/vmlinux", "/sys/fs/cgroup/cgroup.controllers", "/sys/kernel/tracing/events/syscalls"):
        print(f"{path}: {'there' if Path(path).exists() else 'MISSING'}")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers.prepare(Path(directory)))
        import bcc

        started = time.monotonic()
        program = bcc.BPF(text=PROGRAM)
        program.load_func("sockops", bcc.BPF.SOCK_OPS)
        print(f"{platform.release()}: compiled and loaded in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
