"""Fixed-layout records that C and Python share.

A record is a frozen dataclass whose fields are sized integers, addresses or arrays of them. `@record` gives it
`pack()`/`unpack()` and refuses, at import, any layout in which a C compiler would insert padding: hash maps compare raw
bytes, so a hidden pad byte would make two equal keys differ.
"""

import dataclasses
import ipaddress
import struct
import typing
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One field's C type, its `struct` code, its size in bytes and how many of it there are (0: not an array)."""

    c_type: str
    code: str
    size: int
    count: int = 0

    @property
    def total(self) -> int:
        return self.size * max(self.count, 1)


U8 = Annotated[int, Scalar("__u8", "B", 1)]
U16 = Annotated[int, Scalar("__u16", "H", 2)]
U32 = Annotated[int, Scalar("__u32", "I", 4)]
U64 = Annotated[int, Scalar("__u64", "Q", 8)]
# An IPv6 address in network order; IPv4 is written as ::ffff:a.b.c.d so that one key serves both families.
Addr = Annotated[bytes, Scalar("__u8", "16s", 1, 16)]
U8x2 = Annotated[tuple[int, int], Scalar("__u8", "2B", 1, 2)]
U16x2 = Annotated[tuple[int, int], Scalar("__u16", "2H", 2, 2)]
U32x2 = Annotated[tuple[int, int], Scalar("__u32", "2I", 4, 2)]
U64x2 = Annotated[tuple[int, int], Scalar("__u64", "2Q", 8, 2)]

ZERO_ADDR = bytes(16)


def pack_addr(address: str) -> bytes:
    """Return the 16 key bytes of an IPv4 or IPv6 address; raises ValueError on anything else."""
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def unpack_addr(raw: bytes) -> str:
    """Return the printable form of 16 key bytes, IPv4 in dotted form."""
    if raw[:12] == bytes(10) + b"\xff\xff":
        return str(ipaddress.IPv4Address(raw[12:]))
    return str(ipaddress.IPv6Address(raw))


class Record:
    """Base of all records: `SIZE` in bytes, `FIELDS` in order as (name, Scalar, offset)."""

    SIZE: ClassVar[int]
    FIELDS: ClassVar[tuple[tuple[str, Scalar, int], ...]]
    _STRUCT: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        """Return the record as the kernel sees it, `SIZE` bytes."""
        flat: list[Any] = []
        for name, scalar, _ in self.FIELDS:
            value = getattr(self, name)
            if scalar.count and scalar.code != "16s":
                flat.extend(value)
            else:
                flat.append(value)
        return self._STRUCT.pack(*flat)

    @classmethod
    def unpack(cls, raw: bytes | memoryview) -> Self:
        """Return the record in the first `SIZE` bytes of raw; raises struct.error if there are fewer."""
        values = iter(cls._STRUCT.unpack_from(raw))
        out: list[Any] = []
        for _, scalar, _ in cls.FIELDS:
            if scalar.count and scalar.code != "16s":
                out.append(tuple(next(values) for _ in range(scalar.count)))
            else:
                out.append(next(values))
        return cls(*out)


R = TypeVar("R", bound=Record)


@dataclass_transform(frozen_default=True)
def record(cls: type[R]) -> type[R]:
    """Make cls a frozen dataclass with a checked layout; raises TypeError where C would insert padding."""
    frozen = dataclasses.dataclass(frozen=True, slots=False)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[tuple[str, Scalar, int]] = []
    offset = 0
    widest = 1
    for field in dataclasses.fields(frozen):  # type: ignore[arg-type]
        scalar = next(m for m in hints[field.name].__metadata__ if isinstance(m, Scalar))
        if offset % scalar.size:
            raise TypeError(f"{cls.__name__}.{field.name}: offset {offset} is not aligned to {scalar.size}; add a pad")
        fields.append((field.name, scalar, offset))
        offset += scalar.total
        widest = max(widest, scalar.size)
    if offset % widest:
        raise TypeError(f"{cls.__name__}: size {offset} is not a multiple of {widest}; add a pad at the end")
    frozen.FIELDS = tuple(fields)
    frozen.SIZE = offset
    frozen._STRUCT = struct.Struct("=" + "".join(scalar.code for _, scalar, _ in fields))
    return frozen
