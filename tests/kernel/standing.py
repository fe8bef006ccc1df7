"""Where the node proxy of a test's node stands, made, looked at and harmed."""

import ctypes
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from loader import mounts, netns
from loader.interception import ground
from tests.hosts import Node

PORT = 4810
_libc = ctypes.CDLL(None, use_errno=True)


def run_dir(node: Node) -> Path:
    return node.directory / "run"


def prepare(node: Node, mtu: int = ground.MTU) -> ground.Ground:
    return netns.inside(node.netns, lambda: ground.prepare(run_dir(node), mtu))


def remove(node: Node) -> None:
    netns.inside(node.netns, lambda: ground.remove(run_dir(node), node.pins))


def link_of(ipr: IPRoute, name: str) -> dict[str, Any]:
    (index,) = ipr.link_lookup(ifname=name)
    (link,) = ipr.get_links(index)
    addresses = [a.get_attr("IFA_ADDRESS") for a in ipr.get_addr(index=index)]
    return {"up": bool(link["flags"] & 1), "mtu": link.get_attr("IFLA_MTU"), "addresses": addresses}


def look(made: ground.Ground, node: Node) -> dict[str, Any]:
    """Return what the ground is like, read by the kernel's own means."""

    def within() -> dict[str, Any]:
        with IPRoute() as ipr:
            found = link_of(ipr, "eth0")
        for name, words in (
            ("routes4", "-4 route show"), ("routes6", "-6 route show"),
            ("table4", "-4 route show table 100"), ("table6", "-6 route show table 100"),
            ("rules4", "-4 rule show"), ("rules6", "-6 rule show"), ("link", "-o link show dev eth0"),
        ):  # fmt: skip
            found[name] = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=True).stdout
        sysctls = ("ipv4/ip_local_port_range", "ipv4/conf/eth0/rp_filter", "ipv4/conf/all/accept_local")
        found["sysctls"] = [Path("/proc/sys/net", name).read_text().split() for name in sysctls]
        return found

    def outside() -> dict[str, Any]:
        with IPRoute() as ipr:
            return link_of(ipr, made.interface)

    return {
        "in": netns.inside(str(made.netns), within),
        "out": netns.inside(node.netns, outside),
        "cgroup": mounts.is_cgroup2(made.cgroup),
    }


def is_right(found: dict[str, Any]) -> None:
    inside, out = found["in"], found["out"]
    assert (inside["up"], inside["addresses"], inside["mtu"]) == (True, [], 1500)
    assert out == {"up": True, "addresses": [], "mtu": 1500}
    assert "NOARP" in inside["link"] and "02:5e:50:00:00:01" in inside["link"]
    assert inside["routes4"].split() == ["default", "dev", "eth0", "proto", "static", "scope", "link"]
    ways = [line for line in inside["routes6"].splitlines() if line.startswith("default")]
    assert len(ways) == 1 and ways[0].startswith("default dev eth0")
    for family in "46":
        assert inside[f"table{family}"].startswith("local default dev lo"), inside
        assert inside[f"rules{family}"].count("iif eth0 lookup 100") == 1
    assert inside["sysctls"] == [["1024", "32767"], ["0"], ["1"]]
    assert found["cgroup"]


def rebooted(made: ground.Ground) -> None:
    assert _libc.umount2(os.fsencode(made.netns), 2) == 0
    assert made.netns.is_file()


def transparent(family: int) -> socket.socket:
    """Return a listener that may be at any address."""
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    level, option = (socket.SOL_IP, 19) if family == 4 else (socket.IPPROTO_IPV6, 75)
    made.setsockopt(level, option, 1)
    made.bind(("", PORT))
    made.listen(8)
    made.settimeout(5)
    return made


def left(made: ground.Ground, node: Node) -> list[str]:
    names = netns.inside(node.netns, lambda: [name for _, name in socket.if_nameindex()])
    links = node.pins / "links"
    return [
        *(name for name in names if name == made.interface),
        *(str(path) for path in (made.netns, Path(made.cgroup)) if path.exists()),
        *(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(made.netns) in line),
        *(path.name for path in (links.glob("proxy-*") if links.is_dir() else ())),
    ]
