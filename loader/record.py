"""Fixed-layout records that C and Python share.

A record is a frozen dataclass whose fields are sized integers, addresses, or arrays of them or of records. `@record`
gives it `pack()`/`unpack()` and refuses, at import, any layout in which a C compiler would insert padding: hash maps
compare raw bytes, so a hidden pad byte would make two equal keys differ.
"""

import dataclasses
import ipaddress
import struct
import typing
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform


@dataclasses.dataclass(frozen=True)
class Field:
    """One field's C type, its `struct` code, its size in bytes, how many of it there are (0: not an array), and the
    record it is made of, if any."""

    c_type: str
    code: str
    size: int
    count: int = 0
    of: "type[Record] | None" = None

    @property
    def total(self) -> int:
        return self.size * max(self.count, 1)

    @property
    def align(self) -> int:
        return self.of.ALIGN if self.of else self.size


U8 = Annotated[int, Field("__u8", "B", 1)]
U16 = Annotated[int, Field("__u16", "H", 2)]
U32 = Annotated[int, Field("__u32", "I", 4)]
U64 = Annotated[int, Field("__u64", "Q", 8)]
# An IPv6 address in network order; IPv4 is written as ::ffff:a.b.c.d so that one key serves both families.
Addr = Annotated[bytes, Field("__u8", "16s", 1, 16)]
U8x2 = Annotated[tuple[int, int], Field("__u8", "2B", 1, 2)]

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
    """Base of all records: `SIZE` and `ALIGN` in bytes, `FIELDS` in order as (name, Field, offset)."""

    SIZE: ClassVar[int]
    ALIGN: ClassVar[int]
    FIELDS: ClassVar[tuple[tuple[str, Field, int], ...]]
    _STRUCT: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        """Return the record as the kernel sees it, `SIZE` bytes."""
        return self._STRUCT.pack(*self._values())

    def _values(self) -> Iterator[Any]:
        for name, field, _ in self.FIELDS:
            value = getattr(self, name)
            if field.of:
                for each in value:
                    yield from each._values()
            elif field.count and field.code != "16s":
                yield from value
            else:
                yield value

    @classmethod
    def blank(cls, **fields: Any) -> Self:
        """Return a record with these fields, all others zero."""
        return dataclasses.replace(cls.unpack(bytes(cls.SIZE)), **fields)  # type: ignore[type-var]

    @classmethod
    def unpack(cls, raw: bytes | memoryview) -> Self:
        """Return the record in the first `SIZE` bytes of raw; raises struct.error if there are fewer."""
        return cls._taken(iter(cls._STRUCT.unpack_from(raw)))

    @classmethod
    def _taken(cls, values: Iterator[Any]) -> Self:
        new = object.__new__(cls)
        fields = new.__dict__  # a frozen dataclass sets its fields one by one, which is slow for a map of 65,536
        for name, field, _ in cls.FIELDS:
            if field.of:
                fields[name] = tuple(field.of._taken(values) for _ in range(field.count))
            elif field.count and field.code != "16s":
                fields[name] = tuple(next(values) for _ in range(field.count))
            else:
                fields[name] = next(values)
        return new


R = TypeVar("R", bound=Record)


def pair_of(cls: type[Record]) -> Field:
    """Return the field of two records of that class."""
    return Field(f"struct {c_name(cls)}", 2 * cls._STRUCT.format[1:], cls.SIZE, 2, cls)


def c_name(cls: type) -> str:
    """Return the name of a class in C: CtEntry is ct_entry there."""
    return "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")


@dataclass_transform(frozen_default=True)
def record(cls: type[R]) -> type[R]:
    """Make cls a frozen dataclass with a checked layout; raises TypeError where C would insert padding."""
    frozen = dataclasses.dataclass(frozen=True, slots=False)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[tuple[str, Field, int]] = []
    offset = 0
    widest = 1
    for each in dataclasses.fields(frozen):  # type: ignore[arg-type]
        field = next(m for m in hints[each.name].__metadata__ if isinstance(m, Field))
        if offset % field.align:
            raise TypeError(f"{cls.__name__}.{each.name}: offset {offset} is not aligned to {field.align}; add a pad")
        fields.append((each.name, field, offset))
        offset += field.total
        widest = max(widest, field.align)
    if offset % widest:
        raise TypeError(f"{cls.__name__}: size {offset} is not a multiple of {widest}; add a pad at the end")
    frozen.FIELDS = tuple(fields)
    frozen.SIZE = offset
    frozen.ALIGN = widest
    frozen._STRUCT = struct.Struct("=" + "".join(field.code for _, field, _ in fields))
    return frozen
