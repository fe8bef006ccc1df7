"""The interfaces and cgroups that belong to the self-test alone, and the removal of all that carries its numbers."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from loader import abi, mounts
from loader.maps import Maps
from loader.numbers import FIRST_ENDPOINT, is_reserved
from loader.record import Record

FIRST_IFINDEX = 0x7FFF0000  # interface numbers that the kernel would reach only after two thousand million interfaces
CGROUP_PREFIX = "sockmesh-selftest-"
_CT_ENDPOINT = next(at for name, _, at in abi.CtKey.FIELDS if name == "endpoint")
_PREFIX = FIRST_ENDPOINT.to_bytes(4, "little")[1:]


def sweep(maps: Maps) -> int:
    """Remove every entry of the self-test from the maps, its own or a killed predecessor's; return how many."""
    removed = 0
    for name, doomed in entries(maps):
        removed += len(doomed)
        maps[name].delete_many(doomed)
    return removed


def entries(maps: Maps) -> Iterator[tuple[str, list[Record]]]:
    """Give the entries of each map in an order in which the packet hooks stay closed: interfaces first."""
    yield "endpoint_ifaces", [k for k, v in maps.endpoint_ifaces.items() if is_reserved(v.id)]
    yield "endpoint_netns", [k for k, v in maps.endpoint_netns.items() if is_reserved(v.id)]
    yield "endpoint_ips", [k for k, v in maps.endpoint_ips.items() if is_reserved(v.id)]
    yield "endpoints", [k for k, _ in maps.endpoints.items() if is_reserved(k.id)]
    yield "caught", [k for k, _ in maps.caught.items() if is_reserved(k.id)]
    yield "ipcache", [k for k, v in maps.ipcache.items() if is_reserved(v.identity)]
    yield "policy", [k for k, _ in maps.policy.items() if is_reserved(k.set_id)]
    yield "conns", [k for k, v in maps.conns.items() if any(is_reserved(end.endpoint) for end in v.end)]
    ours = (
        raw for raw, _ in maps.ct.raw_items() if raw[_CT_ENDPOINT + 1 : _CT_ENDPOINT + 4] == _PREFIX
    )  # of very many
    yield "ct", [abi.CtKey.unpack(raw) for raw in ours]


def sweep_cgroups(root: Path | None) -> None:
    """Remove what self-tests that are no more left under a mount of cgroup v2; one in use cannot be removed."""
    for directory in root.glob(CGROUP_PREFIX + "*") if root else ():
        if not _is_self_test(directory.name.removeprefix(CGROUP_PREFIX)):
            with contextlib.suppress(OSError):
                remove_cgroup(directory)


def _is_self_test(pid: str) -> bool:
    """Tell whether a process is one: by its words, for the number of a dead one is given out again, and one whose
    parent died may wait for ever to be buried, without words."""
    try:
        return b"loader.selftest" in Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return False


def remove_cgroup_of(pid: int) -> None:
    """Remove what a self-test process that has ended left; waits for its last processes to be gone."""
    root = mounts.cgroup2()
    directory = root / f"{CGROUP_PREFIX}{pid}" if root else None
    for _ in range(200):
        if directory is None or not directory.is_dir():
            return
        with contextlib.suppress(OSError):
            remove_cgroup(directory)
            return
        time.sleep(0.01)


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup and those in it; raises OSError while a process is in one of them."""
    for child in directory.iterdir():
        if child.is_dir():
            os.rmdir(child)
    os.rmdir(directory)
