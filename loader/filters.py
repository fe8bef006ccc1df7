"""The packet filters on a pod's host-side interface: at a fixed place on clsact, where the kernel replaces them in one
step. A filter bears the path of its pinned program as its name, so that it tells whose it is.

Anybody on the host may take a filter away, with its qdisc say; no event of ours tells of that. So `are_in_place` is
cheap enough to be asked each second: one small netlink request a filter, and no library between.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader.errors import AttachFailed
from loader.netlink import attributes
from loader.programs import Target

PARENT = {Target.INGRESS: 0xFFFFFFF2, Target.EGRESS: 0xFFFFFFF3}
_HANDLE, _PRIORITY, _ETH_P_ALL = 0x5A, 0x5A, 3
_RTM_GETTFILTER, _NLM_F_REQUEST, _NLMSG_ERROR = 46, 1, 2
_TCA_KIND, _TCA_OPTIONS, _TCA_BPF_NAME, _TCA_BPF_ID = 1, 2, 7, 11
_HEADERS = 16 + 20  # nlmsghdr and tcmsg (include/uapi/linux/rtnetlink.h)


class Hung(NamedTuple):
    """What hangs at our place: the program's id and the filter's name."""

    program: int
    name: str


class Channel:
    """Asks what hangs where, in the network namespace of the thread that makes it. Close it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(2)

    def at(self, ifindex: int, target: Target) -> Hung | None:
        """Return the filter at our place, or None when there is none, or no such interface."""
        kind = struct.pack("=HH", 8, _TCA_KIND) + b"bpf\0"
        info = _PRIORITY << 16 | socket.htons(_ETH_P_ALL)
        message = struct.pack("=BxHiIII", socket.AF_UNSPEC, 0, ifindex, _HANDLE, PARENT[target], info) + kind
        header = struct.pack("=IHHII", 16 + len(message), _RTM_GETTFILTER, _NLM_F_REQUEST, 1, 0)
        self._socket.send(header + message)
        reply = self._socket.recv(65536)
        if struct.unpack_from("=H", reply, 4)[0] == _NLMSG_ERROR:
            return None
        options = dict(attributes(dict(attributes(reply[_HEADERS:])).get(_TCA_OPTIONS, b"")))
        program = options.get(_TCA_BPF_ID, bytes(4))
        name = options.get(_TCA_BPF_NAME, b"").rstrip(b"\0")
        return Hung(struct.unpack_from("=I", program)[0], os.fsdecode(name))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def put(interface: str, ifindex: int, progs: Mapping[Target, tuple[Path, int]]) -> None:
    """Put filters on an interface, each with its pinned program's path and fd; ours are replaced in one step each.

    Raises AttachFailed, also where another agent's hang: of two only the last would judge, without a word to the first.
    """
    try:
        with Channel() as channel:
            for target, (path, _) in progs.items():
                if (there := channel.at(ifindex, target)) and there.name != str(path) and Path(there.name).exists():
                    pins = Path(there.name).parents[1]
                    raise AttachFailed(
                        f"interface {interface}: under the policy of another agent, whose pins are in {pins}: take the "
                        f"workload out of one's configuration; if that agent is no more, `sockmesh uninstall --pins "
                        f"--pin-dir {pins}`"
                    )
        with IPRoute() as ipr:
            try:
                ipr.tc("add", "clsact", ifindex)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                if any(qdisc.get_attr("TCA_KIND") == "ingress" for qdisc in ipr.get_qdiscs(ifindex)):
                    raise AttachFailed(
                        f"interface {interface}: has a queueing discipline `ingress`, beside which no filter towards "
                        "the pod has a place: have who put it there use `clsact`, or "
                        f"`tc qdisc del dev {interface} ingress`"
                    ) from None
            for target, (path, fd) in progs.items():
                ipr.tc(
                    "replace-filter", "bpf", ifindex, handle=_HANDLE, fd=fd, name=str(path), parent=PARENT[target],
                    direct_action=True, prio=_PRIORITY, protocol=_ETH_P_ALL,
                )  # fmt: skip
    except NetlinkError as error:
        why = f"cannot attach filters: {os.strerror(error.code)}"
        if error.code == errno.EOPNOTSUPP:
            why = (
                "its `clsact` shares its filters with other interfaces, so it can have none of its own: have who put "
                f"it there leave out `ingress_block` and `egress_block`, or `tc qdisc del dev {interface} clsact`"
            )
        raise AttachFailed(f"interface {interface}: {why}") from error


def are_in_place(channel: Channel, ifindex: int, wanted: Mapping[Target, int]) -> bool:
    """Tell whether the programs of these ids hang on an interface."""
    return all((there := channel.at(ifindex, target)) and there.program == id for target, id in wanted.items())


def is_ours(channel: Channel, ifindex: int, pin_dir: Path, target: Target) -> bool:
    """Tell whether a filter of one pin directory hangs at our place."""
    there = channel.at(ifindex, target)
    return there is not None and pin_dir in Path(there.name).parents


def found(pin_dir: Path) -> set[int]:
    """Return the interfaces of this network namespace on which a filter of one pin directory hangs, also when what is
    pinned there is gone."""
    with Channel() as channel:
        return {
            ifindex
            for ifindex, _ in socket.if_nameindex()
            if any(is_ours(channel, ifindex, pin_dir, target) for target in PARENT)
        }


def remove(ifindexes: Iterable[int], pin_dir: Path) -> None:
    """Take the filters of one pin directory off interfaces; one that is gone, or another's, is no error."""
    with Channel() as channel, IPRoute() as ipr:
        for ifindex in ifindexes:
            for target, parent in PARENT.items():
                if is_ours(channel, ifindex, pin_dir, target):
                    with contextlib.suppress(NetlinkError):
                        ipr.tc(
                            "del-filter", "bpf", ifindex, handle=_HANDLE, parent=parent, prio=_PRIORITY,
                            protocol=_ETH_P_ALL,
                        )  # fmt: skip
