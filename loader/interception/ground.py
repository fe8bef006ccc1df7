"""The place where the node proxy stands: a network namespace with no address, one interface into it, and a cgroup.

All names come from the agent's run directory, so that several agents share one kernel, and a new agent, or the removal
of a dead one, finds what there is. It stays when the agent ends: connections in the proxy's workers live on.
"""

import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader import attach, mounts, netns
from loader.errors import AttachFailed, FeatureUnsupported
from loader.interception import inner

OWNER = "proxy"  # of the links
MTU = 1500
_CGROUP_PREFIX = "sockmesh-proxy-"
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MNT_DETACH = 4096, 2
_BUSY_S = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class Ground:
    """netns: the file that the network namespace is mounted on; interface, ifindex: the end of the veth that is in the
    agent's namespace; cgroup: the one that the proxy's workers run in; cookie, nsid: the namespace's cookie, and its
    number as the agent's namespace has it."""

    netns: Path
    interface: str
    ifindex: int
    cgroup: str
    cookie: int
    nsid: int

    def fields(self) -> dict[str, int]:
        """Return what abi.Config says of it."""
        return {"proxy_ifindex": self.ifindex, "proxy_netns": self.cookie, "proxy_nsid": self.nsid}


def netns_path(run_dir: Path) -> Path:
    return run_dir.resolve() / "proxy.netns"


def interface_name(run_dir: Path) -> str:
    return "smp-" + _digest(run_dir)[:11]


def cgroup_path(run_dir: Path) -> Path | None:
    """Return where the cgroup is or would be; None: cgroup v2 is not mounted."""
    root = mounts.cgroup2()
    return root / (_CGROUP_PREFIX + _digest(run_dir)[:12]) if root else None


def _digest(run_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(run_dir.resolve())).hexdigest()


def prepare(run_dir: Path, mtu: int = MTU) -> Ground:
    """Make the ground in the calling thread's network namespace, or adopt what is there and right; what is half made or
    wrong is made again. `mtu` is the largest of the pods' interfaces'. Raises AttachFailed or FeatureUnsupported."""
    cgroup = cgroup_path(run_dir)
    if cgroup is None:
        raise FeatureUnsupported("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    file, interface = netns_path(run_dir), interface_name(run_dir)
    with _words(f"cgroup {cgroup}: cannot make the node proxy's cgroup"):
        cgroup.mkdir(exist_ok=True)
    with _words(f"{file}: cannot make the node proxy's network namespace"):
        _provide_namespace(file)
    with _words(f"interface {interface}: cannot make the node proxy's interface"):
        netns.inside(str(file), inner.settle)
        ifindex = _provide_interface(file, interface, mtu)
        netns.inside(str(file), inner.configure)
    facts = netns.facts(str(file), interface)
    return Ground(file, interface, ifindex, str(cgroup), facts.netns_cookie, facts.nsid)


def remove(run_dir: Path, pin_dir: Path) -> None:
    """Take away all that `prepare` made and what hangs there; what is gone is no error.

    Raises AttachFailed while a worker of the proxy lives, then everything stays.
    """
    cgroup, file = cgroup_path(run_dir), netns_path(run_dir)
    if cgroup and (pids := _wait_empty(cgroup)):
        shown = ", ".join(map(str, pids[:4]))
        raise AttachFailed(f"cgroup {cgroup}: the node proxy still runs (pid {shown}): end it first")
    with _words(f"{file}: cannot take the node proxy's ground away"):
        _remove_interface(interface_name(run_dir))
        if _is_our_namespace(file):  # the interface may have been made in another namespace than this one
            netns.inside(str(file), lambda: _remove_interface(inner.INTERFACE))
        attach.remove_links(pin_dir, OWNER)
        _remove_namespace(file)
        if cgroup:
            with contextlib.suppress(FileNotFoundError):
                cgroup.rmdir()


@contextlib.contextmanager
def _words(what: str) -> Iterator[None]:
    """Turn what the kernel says into AttachFailed."""
    try:
        yield
    except NetlinkError as error:
        raise AttachFailed(f"{what}: {os.strerror(error.code)}") from error
    except OSError as error:
        raise AttachFailed(f"{what}: {error.strerror or error}") from error


def _is_our_namespace(file: Path) -> bool:
    """Tell whether a network namespace is mounted there that is not the agent's own, or the host's, by mistake."""
    return netns.is_namespace(str(file)) and not netns.is_host(str(file))


def _provide_namespace(file: Path) -> None:
    if _is_our_namespace(file):
        return
    _remove_namespace(file)  # the ordinary file that stays after a reboot, say
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.touch(mode=0o600)

    def make() -> None:
        if _libc.unshare(_CLONE_NEWNET) != 0 or (
            _libc.mount(b"/proc/thread-self/ns/net", os.fsencode(file), None, _MS_BIND, None) != 0
        ):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(file))

    netns.in_thread(make)


def _remove_namespace(file: Path) -> None:
    while _libc.umount2(os.fsencode(file), _MNT_DETACH) == 0:  # one may be mounted over another
        pass
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):
        raise OSError(number, os.strerror(number), str(file))
    file.unlink(missing_ok=True)


def _provide_interface(file: Path, interface: str, mtu: int) -> int:
    """Return the index of the veth's end in this namespace; one that does not lead to `file` is made anew."""
    with IPRoute() as ipr:
        if not _is_right(ipr, file, interface):
            _remove_interface(interface)
            netns.inside(str(file), lambda: _remove_interface(inner.INTERFACE))
            peer = {"ifname": inner.INTERFACE, "address": inner.MAC, "net_ns_fd": str(file)}
            ipr.link("add", ifname=interface, kind="veth", peer=peer)
        (index,) = ipr.link_lookup(ifname=interface)
        # Before it is up: it shall have no address, not even a link's own.
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
        ipr.flush_addr(index=index)
        ipr.link("set", index=index, mtu=mtu, state="up")
    netns.inside(str(file), lambda: inner.set_mtu(mtu))
    return int(index)


def _is_right(ipr: IPRoute, file: Path, interface: str) -> bool:
    """Tell whether an interface is a veth whose other end is the namespace's eth0."""
    found = ipr.link_lookup(ifname=interface)
    try:
        leads_there = bool(found) and netns.facts(str(file), interface).leads_there
    except AttachFailed:  # it goes while it is asked for, with the namespace that it led to
        return False
    return bool(leads_there and netns.inside(str(file), inner.far_end) == found[0])


def _remove_interface(interface: str) -> None:
    """Remove an interface of the calling thread's namespace; a veth's other end goes with it."""
    with IPRoute() as ipr:
        for index in ipr.link_lookup(ifname=interface):
            try:
                ipr.link("del", index=index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise


def _wait_empty(cgroup: Path) -> list[int]:
    """Return the processes that are still in a cgroup after those that are about to end had time to do so."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            pids = [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
        except OSError:  # gone
            return []
        if not pids or time.monotonic() > deadline:
            return pids
        time.sleep(0.02)
