"""Compiled programs as instructions that stand for themselves: each map is named, whatever fd it was compiled with.

body = Body.of(instructions, {7: "policy"})      # fd 7 is that map's in the process that compiled
bpf.load_program(kind, body.bound({"policy": 12}), ...)
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

_WIDE, _MAP_FD = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW: two instructions; BPF_PSEUDO_MAP_FD in the source register
_SIZE = 8


class Body(NamedTuple):
    """One program. `maps`: which one each place in the code names, by the instruction's number."""

    code: bytes
    maps: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, instructions: bytes, names: Mapping[int, str]) -> "Body":
        """Take the fds out of what was compiled; raises KeyError for one that is not named."""
        code, maps = bytearray(instructions), []
        at = 0
        while at < len(code):
            if code[at] == _WIDE:
                if code[at + 1] >> 4 == _MAP_FD:
                    (fd,) = struct.unpack_from("=i", code, at + 4)
                    maps.append((at // _SIZE, names[fd]))
                    struct.pack_into("=i", code, at + 4, 0)
                at += _SIZE
            at += _SIZE
        return cls(bytes(code), tuple(maps))

    def bound(self, fds: Mapping[str, int]) -> bytes:
        """Return instructions that may be loaded in a process with these fds; raises KeyError for a map without one."""
        code = bytearray(self.code)
        for number, name in self.maps:
            struct.pack_into("=i", code, number * _SIZE + 4, fds[name])
        return bytes(code)


class Shape(NamedTuple):
    """A map that no other source file sees: bpf_map_create's arguments."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int


class Compiled(NamedTuple):
    """What a source file was compiled to: its programs by their functions' names, and maps of its own."""

    bodies: dict[str, Body]
    own: dict[str, Shape]
