"""Struct offsets of the running kernel, from its BTF (Documentation/bpf/btf.rst, kernel 5.2 on).

Only what is asked for is decoded: one pass over the type section finds the offset of every type, a second walks the
members of the wanted structs. Used by the compiler child, so that none of this stays in the agent.
"""

import dataclasses
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from loader.errors import FeatureUnsupported

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 9, 10, 11, 12, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19
_MODIFIERS = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
# bytes that follow the 12-byte header of a type: fixed part, and per element of vlen
_EXTRA = {
    _INT: (4, 0), _ARRAY: (12, 0), _STRUCT: (0, 12), _UNION: (0, 12), _ENUM: (0, 8), _FUNC_PROTO: (0, 8),
    _VAR: (4, 0), _DATASEC: (0, 12), _DECL_TAG: (4, 0), _ENUM64: (0, 12),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a member lies: byte offset from the outer struct's start; for a bit field also its bit within that byte."""

    offset: int
    bit: int = 0
    bits: int = 0


class Btf:
    """A decoded BTF blob. `field("tcp_sock", "inet_conn.icsk_inet.sk.sk_rcvbuf")` looks a path up by name."""

    def __init__(self, blob: bytes) -> None:
        magic, _, _, header = struct.unpack_from("<HBBI", blob)
        if magic != _MAGIC:
            raise FeatureUnsupported("the kernel's BTF is not little-endian BTF version 1")
        type_off, type_len, str_off, _ = struct.unpack_from("<IIII", blob, 8)
        self._blob = blob
        self._strings = header + str_off
        self._offsets = [0]
        self._structs: dict[int, int] = {}  # string offset -> type id, for structs and unions
        self._enums: dict[int, int] = {}  # the same for enums
        self._functions: dict[int, int] = {}  # and for functions
        position, end = header + type_off, header + type_off + type_len
        unpack = struct.Struct("<III").unpack_from
        while position < end:
            name, info, _ = unpack(blob, position)
            kind, vlen = (info >> 24) & 0x1F, info & 0xFFFF
            if kind in (_STRUCT, _UNION) and name and vlen:
                self._structs.setdefault(name, len(self._offsets))
            elif kind == _ENUM and name:
                self._enums.setdefault(name, len(self._offsets))
            elif kind == _FUNC:
                self._functions.setdefault(name, len(self._offsets))
            self._offsets.append(position)
            fixed, each = _EXTRA.get(kind, (0, 0))
            position += 12 + fixed + each * vlen

    @classmethod
    def of_kernel(cls, path: Path = VMLINUX) -> "Btf":
        """Return the running kernel's BTF; raises FeatureUnsupported where there is none."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise FeatureUnsupported(
                f"{path}: {error.strerror}: the kernel must be built with CONFIG_DEBUG_INFO_BTF (distributions do)"
            ) from error

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start)].decode()

    def _header(self, type_id: int) -> tuple[int, int, int]:
        name, info, size_or_type = struct.unpack_from("<III", self._blob, self._offsets[type_id])
        return name, info, size_or_type

    def _strip(self, type_id: int) -> int:
        while type_id:
            _, info, target = self._header(type_id)
            if (info >> 24) & 0x1F not in _MODIFIERS:
                break
            type_id = target
        return type_id

    def enumerator(self, enum_name: str, wanted: str) -> int:
        """Return the number of an enumerator; raises KeyError if the kernel has none of that name."""
        for name, type_id in self._enums.items():
            if self._name(name) != enum_name:
                continue
            _, info, _ = self._header(type_id)
            for index in range(info & 0xFFFF):
                member, value = struct.unpack_from("<Ii", self._blob, self._offsets[type_id] + 12 + 8 * index)
                if self._name(member) == wanted:
                    return int(value)
        raise KeyError(f"enum {enum_name}: {wanted}")

    def _find(self, kind: str, ids: Mapping[int, int], name: str) -> int:
        wanted = b"\0" + name.encode() + b"\0"
        start = self._strings
        while True:
            at = self._blob.find(wanted, start)
            if at < 0:
                raise KeyError(f"{kind} {name}")
            type_id = ids.get(at + 1 - self._strings)
            if type_id is not None:
                return type_id
            start = at + 1

    def function(self, name: str) -> int:
        """Return the id of a function, by which a program calls it; raises KeyError if the kernel tells of none."""
        return self._find("function", self._functions, name)

    def _member(self, type_id: int, wanted: str) -> tuple[int, int, int] | None:
        """Return (type, bit offset, bit size) of a member, looking through anonymous structs and unions."""
        _, info, _ = self._header(type_id)
        at = self._offsets[type_id] + 12
        bitfields = bool(info >> 31)
        for index in range(info & 0xFFFF):
            name, member, raw = struct.unpack_from("<III", self._blob, at + 12 * index)
            bits, offset = (raw >> 24, raw & 0xFFFFFF) if bitfields else (0, raw)
            if name and self._name(name) == wanted:
                return member, offset, bits
            if not name:
                inner = self._strip(member)
                if (self._header(inner)[1] >> 24) & 0x1F in (_STRUCT, _UNION):
                    found = self._member(inner, wanted)
                    if found:
                        return found[0], found[1] + offset, found[2]
        return None

    def field(self, struct_name: str, path: str) -> Field:
        """Return where `path` ("a.b.c") lies in a struct; raises KeyError if the kernel has no such member."""
        type_id, total, bits = self._find("struct", self._structs, struct_name), 0, 0
        for part in path.split("."):
            found = self._member(self._strip(type_id), part)
            if found is None:
                raise KeyError(f"struct {struct_name}: {path}")
            type_id, offset, bits = found
            total += offset
        return Field(total // 8, total % 8, bits)


def offsets(btf: Btf, wanted: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[dict[str, Field], list[str]]:
    """Return the field of each macro and the macros the kernel has none for; the first spelling that exists counts."""
    found: dict[str, Field] = {}
    missing: list[str] = []
    for macro, spellings in wanted.items():
        for struct_name, path in spellings:
            try:
                found[macro] = btf.field(struct_name, path)
                break
            except KeyError:
                continue
        else:
            missing.append(macro)
    return found, missing
