"""The hooks that are not a workload's: the sockhash's program and the tracepoints of the whole machine. The short cut
needs them, policy does not."""

from collections.abc import Mapping
from pathlib import Path

from loader import attach, mounts, programs
from loader.errors import AttachFailed, FeatureUnsupported


def put(pin_dir: Path, sockhash: int, progs: Mapping[str, int], replace: bool) -> str:
    """Attach them, by name -> fd, tracepoints that are pinned only with `replace`; return why they are not all."""
    try:
        mounts.ensure("tracefs", mounts.TRACEFS)
        for spec in programs.PROGRAMS:
            if spec.target is programs.Target.SOCKHASH:
                attach.sockhash(sockhash, progs[spec.function])
            elif spec.target is programs.Target.TRACEPOINT:
                pinned = attach.link_path(pin_dir, "tracepoint", spec.function)
                if replace or not pinned.exists():
                    attach.tracepoint(pin_dir, spec, progs[spec.function])
    except (FeatureUnsupported, AttachFailed, OSError) as error:
        return str(error)
    return ""


def lost(pin_dir: Path, sockhash: int, ids: Mapping[str, int]) -> list[str]:
    """Return those that somebody took away, of name -> id; cheap enough to be asked each second."""
    found = []
    for spec in programs.PROGRAMS:
        if spec.target is programs.Target.SOCKHASH:
            is_there = attach.is_on_sockhash(sockhash, ids[spec.function])
        elif spec.target is programs.Target.TRACEPOINT:  # the kernel detaches no such link: it can only be removed
            is_there = attach.link_path(pin_dir, "tracepoint", spec.function).exists()
        else:
            continue
        if not is_there:
            found.append(spec.function)
    return found
