"""bpf(2) and the few calls beside it, by number: what the long-lived agent needs without bcc's LLVM in its memory.

Layouts are those of `union bpf_attr` (uapi/linux/bpf.h, kernel 5.10 to 6.18). Every function raises OSError with
the kernel's errno; callers turn it into an error that names who must act.
"""

import ctypes
import enum
import errno
import os
import platform
import struct
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}.get(platform.machine(), 324)
_MEMBARRIER_GLOBAL = 1
_SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), 298)


class Cmd(enum.IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    BTF_LOAD = 18
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_DETACH = 34


class MapType(enum.IntEnum):
    """Numbers of the kernel, by bcc's table names."""

    hash = 1
    array = 2
    prog_array = 3
    percpu_hash = 5
    percpu_array = 6
    lru_hash = 9
    lpm_trie = 11
    sockmap = 15
    sockhash = 18
    ringbuf = 27


_AMPLE_S = 0.05

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2


def call(cmd: Cmd, attr: bytes | bytearray) -> int:
    """Run one bpf(2) command; attr is changed in place when it is a bytearray. Raises OSError."""
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr if isinstance(attr, bytearray) else bytearray(attr))
    result = _libc.syscall(_SYS_BPF, int(cmd), ctypes.byref(buffer), len(attr))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf {cmd.name}: {os.strerror(number)}")
    return int(result)


def _pointer(buffer: "ctypes.Array[ctypes.c_char]") -> int:
    return ctypes.addressof(buffer)


def _buffer(raw: bytes) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(raw, len(raw))


def create_map(kind: int, key: int, value: int, entries: int, flags: int, name: str) -> int:
    """Return the fd of a new map; sizes in bytes."""
    attr = struct.pack(
        "=IIIIIII16sIIII",
        int(kind),
        key,
        value,
        entries,
        flags,
        0,
        0,
        name.encode()[:15],
        0,
        0,
        0,
        0,
    )
    return call(Cmd.MAP_CREATE, attr)


def pin(fd: int, path: Path) -> None:
    name = _buffer(os.fsencode(path) + b"\0")
    call(Cmd.OBJ_PIN, struct.pack("=QII", _pointer(name), fd, 0))


def get(path: Path | str) -> int:
    """Return a new fd of a pinned map, program or link; the kernel makes it one that no child inherits."""
    name = _buffer(os.fsencode(path) + b"\0")
    return call(Cmd.OBJ_GET, struct.pack("=QII", _pointer(name), 0, 0))


def info(fd: int, size: int = 256) -> bytes:
    """Return the kernel's info struct (bpf_map_info, bpf_prog_info or bpf_link_info) of a fd, zero-padded to size."""
    data = ctypes.create_string_buffer(size)
    call(Cmd.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, _pointer(data)))
    return data.raw


def map_info(fd: int) -> tuple[int, int, int, int, int, int]:
    """Return (type, id, key size, value size, max entries, flags) of a map."""
    return struct.unpack_from("=IIIIII", info(fd, 80))


def prog_info(fd: int) -> tuple[int, int, str, int, int]:
    """Return (type, id, tag, run time in ns, run count) of a program; the last two are 0 unless stats are on."""
    raw = info(fd, 232)
    kind, ident, tag = struct.unpack_from("=II8s", raw)
    run_ns, run_count = struct.unpack_from("=QQ", raw, 192)
    return kind, ident, tag.hex(), run_ns, run_count


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """Return the value, or None when there is no such key."""
    k, v = _buffer(key), ctypes.create_string_buffer(value_size)
    try:
        call(Cmd.MAP_LOOKUP_ELEM, struct.pack("=I4xQQQ", fd, _pointer(k), _pointer(v), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return v.raw


def update(fd: int, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
    k, v = _buffer(key), _buffer(value)
    call(Cmd.MAP_UPDATE_ELEM, struct.pack("=I4xQQQ", fd, _pointer(k), _pointer(v), flags))


def delete(fd: int, key: bytes) -> bool:
    """Delete a key; return whether it was there."""
    k = _buffer(key)
    try:
        call(Cmd.MAP_DELETE_ELEM, struct.pack("=I4xQQ", fd, _pointer(k), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """Return the key after `key` (the first for None), or None at the end."""
    current = _buffer(key) if key is not None else None
    out = ctypes.create_string_buffer(key_size)
    try:
        call(
            Cmd.MAP_GET_NEXT_KEY,
            struct.pack("=I4xQQ", fd, _pointer(current) if current is not None else 0, _pointer(out)),
        )
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return out.raw


def lookup_batch(
    fd: int, token: bytes | None, key_size: int, value_size: int, count: int
) -> tuple[list[bytes], list[bytes], bytes | None]:
    """Return up to count keys and values after token, and the next token (None: that was all). Kernel 5.6 on."""
    size = max(key_size, 8)
    keys, values = ctypes.create_string_buffer(key_size * count), ctypes.create_string_buffer(value_size * count)
    before = _buffer(token) if token is not None else None
    after = ctypes.create_string_buffer(size)
    attr = bytearray(
        struct.pack(
            "=QQQQIIQQ",
            _pointer(before) if before is not None else 0, _pointer(after), _pointer(keys), _pointer(values),
            count, fd, 0, 0,
        )
    )  # fmt: skip
    done = False
    try:
        call(Cmd.MAP_LOOKUP_BATCH, attr)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        done = True
    (got,) = struct.unpack_from("=I", attr, 32)
    all_keys, all_values = keys.raw, values.raw  # once: each copies the whole
    return (
        [all_keys[i * key_size : (i + 1) * key_size] for i in range(got)],
        [all_values[i * value_size : (i + 1) * value_size] for i in range(got)],
        None if done else after.raw,
    )


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> int:
    """Write count entries laid end to end; return how many were written before the first failure. Raises OSError."""
    k, v = _buffer(keys), _buffer(values)
    attr = bytearray(struct.pack("=QQQQIIQQ", 0, 0, _pointer(k), _pointer(v), count, fd, 0, 0))
    call(Cmd.MAP_UPDATE_BATCH, attr)
    return int(struct.unpack_from("=I", attr, 32)[0])


def call_helper(number: int) -> bytes:
    """Return the instruction that calls a helper; it finds the program's context in r1."""
    return struct.pack("=BBhi", 0x85, 0, 0, number)


def exit_with(result: int) -> bytes:
    """Return the instructions that end a program with a result."""
    return struct.pack("=BBhi", 0xB7, 0, 0, result) + struct.pack("=BBhi", 0x95, 0, 0, 0)


def load_program(kind: int, instructions: bytes, expected_attach: int, name: str, log_size: int = 0) -> int:
    """Return the fd of a program given as instructions. `log_size`: bytes for the verifier's words, which are what the
    OSError says if it refuses."""
    code, licence = _buffer(instructions), _buffer(b"GPL\0")
    log = ctypes.create_string_buffer(max(1, log_size))
    try:
        return call(
            Cmd.PROG_LOAD,
            struct.pack(
                "=IIQQIIQII16sII",
                kind, len(instructions) // 8, _pointer(code), _pointer(licence), int(log_size > 0), log_size,
                ctypes.addressof(log) if log_size else 0, 0, 0, name.encode()[:15], 0, expected_attach,
            ),
        )  # fmt: skip
    except OSError as error:
        if not log_size:
            raise
        raise OSError(error.errno, log.value.decode(errors="replace")) from None


def attach(target: int, prog: int, kind: int, flags: int = 0, replace: int = 0) -> None:
    call(Cmd.PROG_ATTACH, struct.pack("=IIIII", target, prog, kind, flags, replace))


def detach(target: int, prog: int, kind: int) -> None:
    call(Cmd.PROG_DETACH, struct.pack("=IIII", target, prog, kind, 0))


def attached(target: int, kind: int) -> list[int]:
    """Return the ids of the programs of a kind that hang on a cgroup (kernel 4.15) or a sockhash (5.18)."""
    room = 64
    ids = (ctypes.c_uint32 * room)()
    attr = bytearray(struct.pack("=IIIIQI4x", target, kind, 0, 0, ctypes.addressof(ids), room))
    call(Cmd.PROG_QUERY, attr)
    return list(ids[: struct.unpack_from("=I", attr, 24)[0]])


def link_create(prog: int, target: int, kind: int) -> int:
    """Return the fd of a new link of a program to a cgroup or perf event; kernel 5.7 (cgroup), 5.15 (perf event)."""
    return call(Cmd.LINK_CREATE, struct.pack("=IIII32x", prog, target, kind, 0))


def link_update(link: int, prog: int) -> None:
    """Put another program behind a link, at once and without a gap."""
    call(Cmd.LINK_UPDATE, struct.pack("=IIII", link, prog, 0, 0))


def tracepoint_event(ident: int) -> int:
    """Return a perf event fd of tracepoint `ident` (the number in tracefs' `id` file), for all processes."""
    # perf_event_attr: type PERF_TYPE_TRACEPOINT, size 112, config = id, sample_period 1, wakeup_events 1
    attr = bytearray(112)
    struct.pack_into("=IIQQQ", attr, 0, 2, 112, ident, 1, 1 << 10)
    struct.pack_into("=I", attr, 48, 1)
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    fd = _libc.syscall(_SYS_PERF_EVENT_OPEN, ctypes.byref(buffer), -1, 0, -1, 8)  # 8: PERF_FLAG_FD_CLOEXEC
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"perf_event_open: {os.strerror(number)}")
    return int(fd)


def await_programs() -> None:
    """Return when every BPF program that ran at the time of the call has ended, and what it was called from.

    That is RCU's grace period, by membarrier(2); a kernel with nohz_full refuses it, and gets a time that is far longer
    than any packet's way through the host.
    """
    if _libc.syscall(_SYS_MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0) < 0:
        time.sleep(_AMPLE_S)
