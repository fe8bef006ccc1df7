"""All of it in one piece: as the header that C includes, and as a hash."""

import enum
import hashlib

from loader.abi import state, words
from loader.abi.maps import MAPS
from loader.record import Record, c_name

ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (
    words.Verdict, words.Direction, words.Rank, words.Proto, words.ReservedIdentity, words.DropReason, words.EventType,
    words.Hook, words.AccelReason, words.Mtls, words.IpcacheFlag, words.ProxyFactsFlag, words.EditionState,
    words.EndpointFlag, words.ConnFlag, words.CtFlag, words.Closed, words.Metric,
)  # fmt: skip

# `struct conn` is made of two of `struct end`, so that one comes first.
RECORDS: tuple[type[Record], ...] = tuple(
    dict.fromkeys(
        [state.End, state.ProxySide, state.ProxyFacts]
        + [r for spec in MAPS for r in (spec.key, spec.value) if r is not None]
    )
)


def header() -> str:
    """Return the text of bpf/mesh_abi.h."""
    lines = [
        "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */",
        "/* Written by `python -m loader.abi`; edit loader/abi/ instead. */",
        "#pragma once",
        "#include <linux/types.h>",
        "",
    ]
    for enumeration in ENUMS:
        prefix = c_name(enumeration).upper()
        lines.append(f"enum {c_name(enumeration)} {{")
        lines += [f"  {prefix}_{member.name} = {int(member)}," for member in enumeration]
        lines += ["};", ""]
    for cls in RECORDS:
        tag = f"struct {c_name(cls)}"
        lines.append(f"{tag} {{")
        for name, field, _ in cls.FIELDS:
            lines.append(f"  {field.c_type} {name}{f'[{field.count}]' if field.count else ''};")
        lines.append("};")
        lines.append(f'_Static_assert(sizeof({tag}) == {cls.SIZE}, "{tag}");')
        for name, _, offset in cls.FIELDS:
            lines.append(f'_Static_assert(__builtin_offsetof({tag}, {name}) == {offset}, "{tag}.{name}");')
        lines.append("")
    for spec in MAPS:
        lines.append(f"#define MAX_{spec.name.upper()} {spec.max_entries}")
    lines.append(f"#define FIRST_CIDR_IDENTITY {words.FIRST_CIDR_IDENTITY}")
    return "\n".join(lines) + "\n"


def fingerprint() -> str:
    """Return a short hash of the maps and their records' fields: pinned maps of another layout are never adopted."""
    layout = [(s.name, s.type, s.max_entries, *(_layout(r) for r in (s.key, s.value) if r)) for s in MAPS]
    return hashlib.sha256(repr(layout).encode()).hexdigest()[:12]


def _layout(cls: type[Record]) -> tuple[object, ...]:
    fields = [(name, f.code, at, _layout(f.of) if f.of else None) for name, f, at in cls.FIELDS]
    return cls.__name__, fields
