"""What the agent must know of a pod's network namespace, read from inside it.

A thread enters the namespace and ends there, so that the agent itself never leaves its own (setns(2) is per thread).
"""

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import ipaddress
import os
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader.errors import AttachFailed

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCGIFCONF = 0x8912
_SIOCGIFHWADDR = 0x8927
_IFREQ, _IFREQ_AT = 40, 16  # struct ifreq of 64-bit kernels, and where what is asked for begins
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_SO_NETNS_COOKIE = 71  # kernel 5.14
_IFF_LOOPBACK = 0x8
NSID_UNKNOWN = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class PodFacts:
    """ifindex: host-side interface; nsid: the pod's namespace as the agent's namespace numbers it.

    is_host: the namespace is the agent's own or that of process 1. leads_there: the interface is a veth whose other end
    is in the namespace; None: it is no veth, or nobody can tell. mac: the link address of that other end, its bytes in
    the order of the wire as the first of a word in memory; 0: not known.
    """

    netns_cookie: int
    ifindex: int
    nsid: int
    is_host: bool = False
    is_loopback: bool = False
    leads_there: bool | None = None
    mac: int = 0
    first_port: int = 0  # from which its kernel takes ports for calls; 0: not known


def path_of(netns: str) -> Path:
    """Return the file of a namespace given by path or by `ip netns` name."""
    return Path(netns) if "/" in netns else Path("/run/netns") / netns


def addresses() -> tuple[str, ...]:
    """Return the addresses of the calling thread's namespace, but for loopback's and those of a link only, sorted.

    IPv4 by SIOCGIFCONF (netdevice(7)), IPv6 by /proc/net/if_inet6: cheap enough to be asked each second.
    """
    found: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        size = _IFREQ * 4096
        buffer = ctypes.create_string_buffer(size)
        reply = fcntl.ioctl(asked, _SIOCGIFCONF, struct.pack("iL", size, ctypes.addressof(buffer)))
        length = struct.unpack_from("i", reply)[0]
        found.update(socket.inet_ntoa(buffer.raw[at + 20 : at + 24]) for at in range(0, length, _IFREQ))
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        # As bytes: each line ends with an interface's name, which may be no text, or break one in two.
        for line in Path("/proc/thread-self/net/if_inet6").read_bytes().splitlines():
            found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0].decode()))))
    kept = (ip for ip in map(ipaddress.ip_address, found) if not (ip.is_loopback or ip.is_link_local))
    return tuple(map(str, sorted(kept, key=lambda ip: (ip.version, ip.packed))))


def in_thread(function: Callable[[], T]) -> T:
    """Run function in a thread of its own and return its result; raises what it raises.

    What it does to its namespaces ends with the thread.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _open(netns: str) -> int:
    """Return a descriptor of a network namespace; raises OSError, also for what is none, such as the ordinary file that
    stays where a namespace was mounted, or a FIFO, which would let a blocking open wait for its writer."""
    path = path_of(netns)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            with contextlib.suppress(OSError):
                if fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET:
                    return fd
        raise OSError(errno.EINVAL, "not a network namespace", str(path))
    except BaseException:
        os.close(fd)
        raise


def inside(netns: str, function: Callable[[], T]) -> T:
    """Run function in a thread inside a network namespace and return its result; raises what it raises."""

    def within() -> T:
        enter(netns)
        return function()

    return in_thread(within)


def enter(netns: str) -> None:
    """Have the calling thread enter a network namespace for good; raises OSError."""
    fd = _open(netns)
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path_of(netns)))
    finally:
        os.close(fd)


def cookie() -> int:
    """Return the cookie of the calling thread's network namespace; raises OSError before kernel 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int(struct.unpack("=Q", raw)[0])


def facts(netns: str, interface: str) -> PodFacts:
    """Return a pod's facts, giving its namespace an id if it has none; raises AttachFailed naming what is missing."""
    try:
        netns_cookie, first_port = inside(netns, lambda: (cookie(), _first_port()))
        with IPRoute() as ipr:
            found = () if "\0" in interface else ipr.link_lookup(ifname=interface)  # it would be cut off there
            if found:
                nsid = _nsid(ipr, netns)  # before the link is asked for, which then has it
                (link,) = ipr.get_links(found[0])
                is_loopback = bool(link["flags"] & _IFF_LOOPBACK)
                leads_there = _leads_to(link, nsid)
                mac = _far_mac(netns, link.get_attr("IFLA_LINK")) if leads_there else 0
                return PodFacts(netns_cookie, found[0], nsid, is_host(netns), is_loopback, leads_there, mac, first_port)
    except (OSError, NetlinkError) as error:
        why = os.strerror(error.code) if isinstance(error, NetlinkError) else error.strerror or error
        raise AttachFailed(f"network namespace {path_of(netns)}: {why}: is the pod still there?") from error
    except ValueError:  # no text that the kernel could know
        pass
    raise AttachFailed(f"interface {interface}: not in the agent's network namespace: is the pod still there?")


def _first_port() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 0


def _nsid(ipr: IPRoute, netns: str) -> int:
    """Return the id by which bpf_sk_lookup_tcp finds the pod's sockets; NSID_UNKNOWN: no short cut for this pod."""
    fd = _open(netns)
    try:
        current = _query_nsid(ipr, fd)
        if current is None:
            try:
                ipr.set_netnsid(fd=fd, nsid=-1)
            except Exception as error:
                if getattr(error, "code", None) != errno.EEXIST:
                    return NSID_UNKNOWN
            current = _query_nsid(ipr, fd)
        return NSID_UNKNOWN if current is None else current
    finally:
        os.close(fd)


def is_namespace(netns: str) -> bool:
    """Tell whether a network namespace is there, by path or name."""
    try:
        os.close(_open(netns))
    except OSError:
        return False
    return True


def is_host(netns: str) -> bool:
    """Tell whether a namespace is the calling thread's own or that of process 1."""
    there = os.stat(path_of(netns))
    for process in ("thread-self", "1"):
        with contextlib.suppress(OSError):  # another user's, or in a PID namespace that /proc is not of
            if os.path.samestat(there, os.stat(f"/proc/{process}/ns/net")):
                return True
    return False


def _leads_to(link: Any, nsid: int) -> bool | None:
    """Tell whether the other end of a veth is in the namespace of that number; None: no veth, or nobody can tell."""
    if nsid == NSID_UNKNOWN or link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "veth":
        return None
    far = link.get_attr("IFLA_LINK_NETNSID")
    if far is None:  # the kernel leaves it out where the other end is here, too; then it tells which that is
        return False if link.get_attr("IFLA_LINK") else None
    return None if far < 0 else bool(far == nsid)


def _far_mac(netns: str, index: int) -> int:
    """Return the link address of an interface of a namespace, as in PodFacts; 0: it cannot be read."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            name = os.fsencode(socket.if_indextoname(index))
            return fcntl.ioctl(asked, _SIOCGIFHWADDR, name.ljust(_IFREQ, b"\0"))

    try:
        reply = inside(netns, ask)
    except OSError:  # it goes while it is asked for
        return 0
    return int.from_bytes(reply[_IFREQ_AT + 2 : _IFREQ_AT + 8], sys.byteorder)


def _query_nsid(ipr: IPRoute, fd: int) -> int | None:
    value = ipr.get_netnsid(fd=fd).get("nsid")
    return int(value) if value is not None and 0 <= value < NSID_UNKNOWN else None
