"""The ground the self-test stands on: a host namespace with two pods, each a namespace, a veth pair and a cgroup.

Each pod is a child process that makes sockets on demand and hands them over; the namespaces live only in these
processes, and the programs hang on links held by this one, so all of it goes when they end, however they end.
"""

import contextlib
import ctypes
import os
import signal
import socket
import time
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader import abi, bpf, filters, maps, mounts, netns, numbers, programs
from loader.errors import FeatureUnsupported
from loader.record import pack_addr
from loader.selftest import reserved

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_IFA_F_NODAD, _IFA_F_TENTATIVE = 0x02, 0x40
_NODE_FLAGS = (
    abi.EndpointFlag.ENROLLED
    | abi.EndpointFlag.ACCELERATE
    | abi.EndpointFlag.HAS_CGROUP
    | abi.EndpointFlag.SELF_TEST
    | abi.EndpointFlag.DIRECT
    | abi.EndpointFlag.UNSHAPED
)
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def enter_new_netns() -> None:
    """Give this process a network namespace of its own, with IPv6 switched on where the kernel has it."""
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    for name in ("all", "default"):
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")


class Pod:
    """One pod: its process, addresses and numbers. `socket(family)` gives a socket made in it."""

    def __init__(self, number: int, cgroup: Path, addresses: dict[int, str]) -> None:
        self.id = numbers.FIRST_ENDPOINT + number
        self.ifindex = reserved.FIRST_IFINDEX + number
        self.interface = f"smself{number}"
        self.cgroup = cgroup
        self.addresses = addresses
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            _pod_process(theirs, cgroup)
        theirs.close()
        self._answer()

    @property
    def netns(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def _answer(self) -> list[int]:
        self._channel.settimeout(10)
        words, fds, _, _ = socket.recv_fds(self._channel, 256, 1)
        if words != b"ok":
            raise OSError(0, f"a pod of the self-test: {words.decode(errors='replace') or 'its process ended'}")
        return fds

    def socket(self, family: int) -> socket.socket:
        """Return a TCP socket that lives in the pod's namespace and cgroup."""
        self._channel.send(bytes([family]))
        return socket.socket(fileno=self._answer()[0])

    def close(self) -> None:
        # Its process ends with this; closing alone would not do, as the other pod's process has a copy.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _pod_process(channel: socket.socket, cgroup: Path) -> None:
    """The pod's process: enter cgroup and namespace, then a socket for each byte that names a family. Never returns."""
    status = 1
    try:
        die_with_parent()
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        enter_new_netns()
        channel.send(b"ok")
        while request := channel.recv(1):
            with socket.socket(request[0], socket.SOCK_STREAM) as made:
                socket.send_fds(channel, [b"ok"], [made.fileno()])
        status = 0
    except OSError as error:
        with contextlib.suppress(OSError):
            channel.send(str(error).encode())
    finally:
        os._exit(status)


class Ground:
    """Two pods under the pinned mesh. `close` takes all of it away; so does the end of this process but for map entries
    and empty cgroups, which the agent removes, at its next start if it ended, too."""

    def __init__(self, pin_dir: Path) -> None:
        self.maps = maps.open_all(pin_dir)
        self.pods: list[Pod] = []
        self._pin_dir = pin_dir
        self._links: list[int] = []
        self._listeners: dict[int, socket.socket] = {}

    def open(self) -> None:
        """Make everything; raises OSError or MeshError."""
        root = mounts.cgroup2()
        if root is None:
            raise FeatureUnsupported("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
        reserved.sweep(self.maps)
        reserved.sweep_cgroups(root)
        enter_new_netns()
        directory = root / f"{reserved.CGROUP_PREFIX}{os.getpid()}"
        directory.mkdir()
        for number in (0, 1):
            cgroup = directory / f"pod{number}"
            cgroup.mkdir()
            self.pods.append(Pod(number, cgroup, self._free_addresses(number)))
        self._plug()
        for pod in self.pods:
            self._enrol(pod)

    def _free_addresses(self, number: int) -> dict[int, str]:
        """Return documentation addresses (RFC 5737, RFC 3849) that no workload of this node uses."""
        for last in range(241 + number, 1, -2):
            found: dict[int, str] = {socket.AF_INET: f"192.0.2.{last}", socket.AF_INET6: f"2001:db8::{last:x}"}
            if not any(self.maps.endpoint_ips.get(abi.AddrKey(pack_addr(a))) for a in found.values()):
                return found
        raise FeatureUnsupported("workloads use all of 192.0.2.0/24 or 2001:db8::/120, which the self-test needs")

    def _plug(self) -> None:
        """Connect both pods through a bridge; return when their addresses can be used."""
        with IPRoute() as ipr:
            ipr.link("set", index=1, state="up")
            ipr.link("add", ifname="smself", kind="bridge", br_stp_state=0, br_forward_delay=0)
            bridge = ipr.link_lookup(ifname="smself")[0]
            for pod in self.pods:
                peer = {"ifname": "eth0", "net_ns_fd": pod.netns}
                ipr.link("add", ifname=pod.interface, index=pod.ifindex, kind="veth", peer=peer)
                ipr.link("set", index=pod.ifindex, master=bridge, state="up")
            ipr.link("set", index=bridge, state="up")
        for pod in self.pods:
            netns.inside(pod.netns, lambda pod=pod: _configure(pod.addresses))  # type: ignore[misc]
        for pod in self.pods:
            netns.inside(pod.netns, lambda pod=pod: _wait_usable(pod.addresses))  # type: ignore[misc]

    def forget_caught(self) -> None:
        """Let the pods' programs be taken for good readers again."""
        for pod in self.pods:
            self.maps.caught.delete(abi.EndpointKey(pod.id))

    def _enrol(self, pod: Pod) -> None:
        """Write one pod's map entries and attach the pinned programs.

        The packet filters come last, and go first in `close`: a packet that they cannot place would be on record.
        """
        for spec in programs.PROGRAMS:
            if spec.target is programs.Target.CGROUP:
                self._link(pod, spec)
        facts = netns.facts(pod.netns, pod.interface)
        ref = abi.EndpointRef(pod.id)
        for direction in abi.Direction:
            key = abi.PolicyKey(numbers.FIRST_ENDPOINT, 0, 0, abi.Proto.ANY, direction, 0)
            value = abi.PolicyValue(abi.Verdict.ALLOW, abi.Rank.ALLOW, 0, 0, 0, 0, 1, 0)
            self.maps.policy.put(key, value)
        self.maps.endpoints.put(
            abi.EndpointKey(pod.id),
            abi.Endpoint(
                id=pod.id, identity=pod.id, set_id=numbers.FIRST_ENDPOINT, flags=int(_NODE_FLAGS), ifindex=pod.ifindex,
                ingress_plens=0, egress_plens=0, netns_cookie=facts.netns_cookie, nsid=facts.nsid,
            ),
        )  # fmt: skip
        for address in pod.addresses.values():
            self.maps.ipcache.put(abi.IpcacheKey(128, pack_addr(address)), abi.IpcacheValue(pod.id))
            self.maps.endpoint_ips.put(abi.AddrKey(pack_addr(address)), ref)
        self.maps.endpoint_netns.put(abi.NetnsKey(facts.netns_cookie), ref)
        self.maps.endpoint_ifaces.put(abi.IfaceKey(pod.ifindex), ref)
        paths = {target: self._pin_dir / "progs" / name for target, name in programs.FILTERS.items()}
        progs = {target: (path, bpf.get(path)) for target, path in paths.items()}
        filters.put(pod.interface, pod.ifindex, progs)
        for _, fd in progs.values():
            os.close(fd)

    def _program(self, spec: programs.ProgramSpec) -> int:
        return bpf.get(self._pin_dir / "progs" / spec.function)

    def _link(self, pod: Pod, spec: programs.ProgramSpec) -> None:
        program = self._program(spec)
        target = os.open(pod.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._links.append(bpf.link_create(program, target, int(spec.attach)))
        finally:
            os.close(target)
            os.close(program)

    def listener(self, family: int) -> socket.socket:
        """Return the second pod's listener for a family, made at its first use."""
        if family not in self._listeners:
            made = self._listeners[family] = self.pods[1].socket(family)
            made.bind((self.pods[1].addresses[family], 0))
            made.listen(8)
        return self._listeners[family]

    def close(self) -> None:
        """Take everything away; what cannot be removed now is the agent's to remove."""
        for listener in self._listeners.values():
            listener.close()
        filters.remove((pod.ifindex for pod in self.pods), self._pin_dir)
        reserved.sweep(self.maps)
        for link in self._links:
            os.close(link)
        for pod in self.pods:
            pod.close()
        reserved.remove_cgroup_of(os.getpid())
        self.maps.close()


def _configure(addresses: dict[int, str]) -> None:
    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.link("set", index=index, state="up")
        ipr.addr("add", index=index, address=addresses[socket.AF_INET], prefixlen=24)
        with contextlib.suppress(NetlinkError):  # no IPv6 in this kernel: its case says so
            ipr.addr("add", index=index, address=addresses[socket.AF_INET6], prefixlen=64, flags=_IFA_F_NODAD)


def _wait_usable(addresses: dict[int, str]) -> None:
    """Return when the interface carries packets and none of addresses is tentative; after 5 s in any case."""
    with IPRoute() as ipr:
        index = ipr.link_lookup(ifname="eth0")[0]
        for _ in range(1000):
            up = ipr.get_links(index)[0].get_attr("IFLA_OPERSTATE") == "UP"
            ours = [a for a in ipr.get_addr(index=index) if a.get_attr("IFA_ADDRESS") in addresses.values()]
            if up and not any((a.get_attr("IFA_FLAGS") or 0) & _IFA_F_TENTATIVE for a in ours):
                return
            time.sleep(0.005)
