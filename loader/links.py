"""The interfaces of the agent's network namespace: what each host end of a pod's veth is to the host, and when to look
again."""

import errno
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader.errors import AttachFailed

_RTMGRP_LINK = 1  # include/uapi/linux/rtnetlink.h


class HostEnd(NamedTuple):
    """A veth as the host has it.

    is_plain: it has no queue of its own. What it would do to a packet on its way into a pod, nobody misses when the
    packet passes it by; a queue, such as the bandwidth plugin's, is there to shape it.
    inlet: the interface by which its packets come to the host's routing; 0: nobody can tell.
    """

    is_plain: bool
    inlet: int


def host_ends() -> Mapping[int, HostEnd]:
    """Return this namespace's veth interfaces by their indices; raises AttachFailed."""
    try:
        with IPRoute() as ipr:
            return ends_among(list(ipr.get_links()))
    except NetlinkError as error:
        raise AttachFailed(f"the interfaces cannot be listed: {os.strerror(error.code)}") from error


def ends_among(links: Iterable[Any]) -> dict[int, HostEnd]:
    """Return the veths among all links of a namespace. Pure."""
    by_index = {int(link["index"]): link for link in links}
    # What stands on another interface (a VLAN, say) takes packets of that one, and they count as received by it.
    beneath = {
        link.get_attr("IFLA_LINK")
        for link in by_index.values()
        if _kind(link) != "veth" and link.get_attr("IFLA_LINK_NETNSID") is None
    }
    return {
        index: HostEnd(link.get_attr("IFLA_QDISC") == "noqueue", _inlet(index, by_index, beneath))
        for index, link in by_index.items()
        if _kind(link) == "veth"
    }


def _inlet(index: int, by_index: Mapping[int, Any], beneath: set[int | None]) -> int:
    """Return where a veth's packets come to routing: where nothing stands on it or over it, or only a bridge over which
    there is nothing; 0 for whatever else there is (a VRF, a switch of Open vSwitch, a VLAN of the bridge)."""
    above = by_index[index].get_attr("IFLA_MASTER") or index
    over = by_index.get(above)
    if over is None or {index, above} & beneath:
        return 0
    if above != index and (_kind(over) != "bridge" or over.get_attr("IFLA_MASTER")):
        return 0
    return above


def _kind(link: Any) -> str:
    return str(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "")


class Watch:
    """Tells of changes to the interfaces of the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK))

    def has_changed(self) -> bool:
        """Tell whether any has changed since this was asked before."""
        found = False
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than there is room for: some are lost
                    raise
            found = True

    def close(self) -> None:
        self._socket.close()
