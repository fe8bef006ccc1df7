"""A node: a network namespace with a bridge that pods are plugged into, and that an agent can run in."""

import functools
import hashlib
import ipaddress
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute

from loader.errors import PrivilegeMissing
from tests.hosts import cgroups, cleanup, namespaces
from tests.hosts.pod import Host, Pod
from tests.hosts.record import Run
from tests.hosts.wait import wait_until

BRIDGE = "br0"
# Duplicate address detection off: an IPv6 address is usable at once, and no test waits a second for it.
_QUIET_V6 = {
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
}
_ROUTER, _ROUTER6 = "169.254.1.1", "fe80::1"  # the node, to pods that are not on its bridge
_ONLINK, _NTF_PROXY = 4, 8  # of a next hop, of a neighbour
IFA_F_NODAD = 0x02
IFA_F_TENTATIVE = 0x40


def interface_name(pod: str) -> str:
    """Return the host end's name for a pod: at most 15 characters, the same each time.

    >>> interface_name("web")
    'vh-web'
    """
    if len(pod) <= 12:
        return f"vh-{pod}"
    return f"vh-{pod[:5]}-{hashlib.sha256(pod.encode()).hexdigest()[:6]}"


class Node(Host):
    """A node of its own; `with Node("n1") as node:`. All it made is gone at the end, and swept if the owner dies.

    `pod_cgroup` is the cgroup above all its pods (an agent's cgroup root); the node's own programs run in another one
    beside it, so that what is attached to the pods' cgroup never applies to them. `pins` is a directory name under
    /sys/fs/bpf for an agent to use, `directory` one for its files.
    """

    def __init__(self, name: str, subnet: str = "10.244.0.0/24", subnet6: str = "fd00:244::/64") -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
            raise ValueError(f"{name!r}: a node's name is 1 to 31 of a-z, 0-9 and -")
        self.subnet = ipaddress.IPv4Network(subnet)
        self.subnet6 = ipaddress.IPv6Network(subnet6)
        self.gateway = str(self.subnet[1])
        self.gateway6 = str(self.subnet6[1])
        self.pods: dict[str, Pod] = {}
        self._next = 10
        self._links = 0
        super().__init__(name, "", "")

    def __enter__(self) -> Self:
        cleanup.sweep()
        try:
            self._make()
        except PermissionError as error:
            raise PrivilegeMissing(f"test pods need root: {error}") from error
        return self

    def _make(self) -> None:
        self.run_record = Run.begin()
        run_id = self.run_record.id
        self.directory = self.run_record.directory
        self.pins = Path(f"{cleanup.PIN_PREFIX}{run_id}")
        self.run_record.note("pin", str(self.pins))
        self.run_record.note("proxy", str(self.directory / "run"))
        try:
            base = cgroups.root() / f"{cgroups.TEST_PREFIX}{run_id}"
            self.pod_cgroup = str(base)
            self.cgroup = self._make_cgroup(base.with_name(base.name + ".node"))
            self._make_cgroup(base)
            self.netns = self._make_netns(f"smt-{run_id}-{self.name}")
            namespaces.set_sysctls(self.netns, {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
            with IPRoute(netns=self.netns) as ipr:
                ipr.link("add", ifname=BRIDGE, kind="bridge", br_stp_state=0, br_forward_delay=0)
                index = ipr.link_lookup(ifname=BRIDGE)[0]
                ipr.addr("add", index=index, address=self.gateway, prefixlen=self.subnet.prefixlen)
                ipr.addr("add", index=index, address=self.gateway6, prefixlen=self.subnet6.prefixlen, flags=IFA_F_NODAD)
                ipr.link("set", index=index, state="up")
        except BaseException:
            self.close()
            raise

    def _make_cgroup(self, path: Path) -> str:
        self.run_record.note("cgroup", str(path))
        path.mkdir()
        return str(path)

    def _make_netns(self, name: str) -> str:
        self.run_record.note("netns", name)
        path = str(namespaces.create(name))
        namespaces.set_sysctls(path, _QUIET_V6)
        with IPRoute(netns=path) as ipr:
            ipr.link("set", index=1, state="up")  # loopback
        return path

    def pod(
        self,
        name: str,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        accelerate: bool = True,
        service_account: str = "default",
    ) -> Pod:
        """Make a pod that can talk to every other pod and to the node's gateway addresses at once, on both families."""
        if name in self.pods:
            raise ValueError(f"node {self.name} has a pod {name}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", name):
            raise ValueError(f"{name!r}: a pod's name is 1 to 63 of a-z, 0-9, - and .")
        number = self._next
        self._next += 1
        pod = Pod(
            name=name,
            netns=self._make_netns(f"smt-{self.run_record.id}-{self.name}-{name}"),
            cgroup=self._make_cgroup(Path(self.pod_cgroup) / name),
            namespace=namespace,
            labels={"app": name} if labels is None else dict(labels),
            accelerate=accelerate,
            service_account=service_account,
            ip=str(self.subnet[number]),
            ip6=str(self.subnet6[number]),
            interface=interface_name(name),
        )
        self.plug(pod)
        self.pods[name] = pod
        return pod

    def plug(self, pod: Pod) -> None:
        """Connect a pod that has no interface (any more)."""
        with IPRoute(netns=self.netns) as ipr:
            peer = {"ifname": "eth0", "net_ns_fd": pod.netns}
            ipr.link("add", ifname=pod.interface, kind="veth", peer=peer)
            host_end = ipr.link_lookup(ifname=pod.interface)[0]
            bridge = ipr.link_lookup(ifname=BRIDGE)[0]
            ipr.link("set", index=host_end, master=bridge, state="up")
        with IPRoute(netns=pod.netns) as ipr:
            index = ipr.link_lookup(ifname="eth0")[0]
            ipr.link("set", index=index, state="up")
            ipr.addr("add", index=index, address=pod.ip, prefixlen=self.subnet.prefixlen)
            ipr.addr("add", index=index, address=pod.ip6, prefixlen=self.subnet6.prefixlen, flags=IFA_F_NODAD)
            ipr.route("add", dst="default", gateway=self.gateway)
            ipr.route("add", dst="default", gateway=self.gateway6)
            wait_until(functools.partial(_ready, ipr, index), f"the addresses of pod {pod.name} are usable")
        with IPRoute(netns=self.netns) as ipr:
            bridge = ipr.link_lookup(ifname=BRIDGE)[0]
            wait_until(functools.partial(_ready, ipr, bridge), f"the addresses of node {self.name} are usable")

    def route(self, pod: Pod) -> None:
        """Take a pod off the bridge, and lead to it and from it by routes alone, as Calico does."""
        # The pods that stay there take it for one of them.
        answers = {f"ipv4/conf/{BRIDGE}/proxy_arp": "1", f"ipv6/conf/{BRIDGE}/proxy_ndp": "1"}
        namespaces.set_sysctls(self.netns, answers)
        with IPRoute(netns=self.netns) as ipr:
            bridge, host_end = (ipr.link_lookup(ifname=name)[0] for name in (BRIDGE, pod.interface))
            ipr.neigh("replace", dst=pod.ip6, ifindex=bridge, flags=_NTF_PROXY)
            ipr.link("set", index=host_end, master=0)
            for ip, length, gateway in ((pod.ip, 32, _ROUTER), (pod.ip6, 128, _ROUTER6)):
                flags = IFA_F_NODAD if ":" in ip else 0
                ipr.addr("add", index=host_end, address=gateway, prefixlen=length, flags=flags)
                ipr.route("add", dst=f"{ip}/{length}", oif=host_end)
        with IPRoute(netns=pod.netns) as ipr:
            index = ipr.link_lookup(ifname="eth0")[0]
            ipr.addr("del", index=index, address=pod.ip, prefixlen=self.subnet.prefixlen)
            ipr.addr("del", index=index, address=pod.ip6, prefixlen=self.subnet6.prefixlen)
            for ip, length, gateway in ((pod.ip, 32, _ROUTER), (pod.ip6, 128, _ROUTER6)):
                flags = IFA_F_NODAD if ":" in ip else 0
                ipr.addr("add", index=index, address=ip, prefixlen=length, flags=flags)
                ipr.route("replace", dst="default", gateway=gateway, oif=index, flags=_ONLINK, family=_family(ip))
            wait_until(functools.partial(_ready, ipr, index), f"the addresses of pod {pod.name} are usable")

    def rename(self, interface: str, name: str, before: str = "true") -> None:
        """Give an interface another name; `before`: a shell's command that comes right before. Kernels before 6.2
        rename none that is up."""
        shell = 'ip link set "$1" name "$2" 2>/dev/null || {\n'
        shell += 'ip link set "$1" down && ip link set "$1" name "$2" && ip link set "$2" up; }'
        self.run(["sh", "-c", f"{before} && {{ {shell}; }}", "sh", interface, name])

    def remove(self, pod: Pod) -> None:
        """Kill the pod's programs and take it down; its veth vanishes with its namespace."""
        pod.kill_all()
        with IPRoute(netns=self.netns) as ipr:
            # Named now: the kernel would delete it only some time after the namespace's last user is gone.
            for index in ipr.link_lookup(ifname=pod.interface):
                ipr.link("del", index=index)
        cgroups.remove(Path(pod.cgroup))
        namespaces.remove(Path(pod.netns).name)
        del self.pods[pod.name]

    def join(self, other: "Node", link: str = "172.31.255.0/30", link6: str = "fd00:ffff::/126") -> None:
        """Connect two nodes by a wire and route each one's pods to the other."""
        net, net6 = ipaddress.IPv4Network(link), ipaddress.IPv6Network(link6)
        self._links += 1
        other._links += 1
        mine, theirs = f"wire{self._links}", f"wire{other._links}"
        with IPRoute(netns=self.netns) as ipr:
            ipr.link("add", ifname=mine, kind="veth", peer={"ifname": theirs, "net_ns_fd": other.netns})
        for node, far, name, here, there in ((self, other, mine, 1, 2), (other, self, theirs, 2, 1)):
            with IPRoute(netns=node.netns) as ipr:
                index = ipr.link_lookup(ifname=name)[0]
                ipr.link("set", index=index, state="up")
                ipr.addr("add", index=index, address=str(net[here]), prefixlen=net.prefixlen)
                ipr.addr("add", index=index, address=str(net6[here]), prefixlen=net6.prefixlen, flags=IFA_F_NODAD)
                ipr.route("add", dst=str(far.subnet), gateway=str(net[there]))
                ipr.route("add", dst=str(far.subnet6), gateway=str(net6[there]))
        for node, name in ((self, mine), (other, theirs)):
            with IPRoute(netns=node.netns) as ipr:
                index = ipr.link_lookup(ifname=name)[0]
                wait_until(functools.partial(_ready, ipr, index), f"the wire of {node.name} is up")

    def close(self) -> None:
        """Kill everything inside and remove all that was made; raises RuntimeError naming what would not go."""
        for host in (*self.pods.values(), self):
            if host.cgroup:
                host.kill_all()
        self.pods.clear()
        problems = cleanup.take_down(self.run_record)
        if problems:
            raise RuntimeError("; ".join(problems))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _ready(ipr: IPRoute, index: int) -> bool:
    link = ipr.get_links(index)[0]
    if link.get_attr("IFLA_OPERSTATE") != "UP":
        return False
    addresses = list(ipr.get_addr(index=index))
    return bool(addresses) and not any((address.get_attr("IFA_FLAGS") or 0) & IFA_F_TENTATIVE for address in addresses)
