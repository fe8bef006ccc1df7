"""The inside of the node proxy's network namespace. Everything here acts on the calling thread's namespace: call it by
loader.netns.inside.

Whatever arrives is local, whoever it is for; whatever is sent leaves by the one interface, whosever address it bears.
"""

import socket
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import IFF_NOARP

INTERFACE = "eth0"
MAC = "02:5e:50:00:00:01"  # PROXY_MAC in bpf/detour.h
FIRST_OF_PODS = 32768  # a pod's kernel takes its own ports from here on
_LOOPBACK = 1
_TABLE, _PRIORITY = 100, 100
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_NET = Path("/proc/sys/net")

_SYSCTLS = {
    # What the proxy sends in a pod's name shall not meet the pod's own calls.
    "ipv4/ip_local_port_range": f"1024 {FIRST_OF_PODS - 1}",
    "ipv4/tcp_tw_reuse": "1",
    "core/somaxconn": "65535",
    # What a server is asked it answers from its own port, so the proxy must, which is nobody's but in its namespace.
    "ipv4/ip_unprivileged_port_start": "0",
}
_EACH_V4 = {"rp_filter": "0", "accept_local": "1"}
# Its only neighbour is a hook that drops what the kernel says on its own, so nothing may wait for an answer.
_EACH_V6 = {
    "disable_ipv6": "0",
    "autoconf": "0",
    "accept_ra": "0",
    "accept_dad": "0",
    "router_solicitations": "0",
    "addr_gen_mode": "1",  # none
}


def has_ipv6() -> bool:
    return (_NET / "ipv6/conf/all").is_dir()


def families() -> tuple[socket.AddressFamily, ...]:
    return (socket.AF_INET, socket.AF_INET6) if has_ipv6() else (socket.AF_INET,)


def _write(names: tuple[str, ...]) -> None:
    for family, wanted in (("ipv4", _EACH_V4), ("ipv6", _EACH_V6 if has_ipv6() else {})):
        for name in names:
            for key, value in wanted.items():
                (_NET / family / "conf" / name / key).write_text(value)


def settle() -> None:
    """Set what is the namespace's own, and what an interface inherits when it is made."""
    for name, value in _SYSCTLS.items():
        (_NET / name).write_text(value)
    _write(("all", "default"))
    if has_ipv6():
        (_NET / "ipv6/conf/lo/disable_ipv6").write_text("0")
    with IPRoute() as ipr:
        ipr.link("set", index=_LOOPBACK, state="up")


def far_end() -> int:
    """Return the index that the other end of eth0 has in its own namespace; 0: there is no eth0, or no other end."""
    with IPRoute() as ipr:
        found = ipr.link_lookup(ifname=INTERFACE)
        return int(ipr.get_links(found[0])[0].get_attr("IFLA_LINK") or 0) if found else 0


def set_mtu(mtu: int) -> None:
    with IPRoute() as ipr:
        ipr.link("set", index=ipr.link_lookup(ifname=INTERFACE)[0], mtu=mtu)


def configure() -> None:
    """Bring eth0 up with no address, and lay the routes; what is there already stays."""
    _write((INTERFACE,))  # before it is up: afterwards it would have an address of its own
    with IPRoute() as ipr:
        index = ipr.link_lookup(ifname=INTERFACE)[0]
        ipr.flush_addr(index=index)
        ipr.link("set", index=index, address=MAC, flags=IFF_NOARP, change=IFF_NOARP)
        ipr.link("set", index=index, state="up")
        for family in families():
            everything = {"family": family, "dst": "0.0.0.0/0" if family == socket.AF_INET else "::/0"}
            ipr.route("replace", **everything, oif=index, **_scope(family, _SCOPE_LINK))
            ipr.route("replace", **everything, oif=_LOOPBACK, table=_TABLE, type="local", **_scope(family, _SCOPE_HOST))
            if not _has_rule(ipr, family):
                ipr.rule("add", family=family, iifname=INTERFACE, table=_TABLE, priority=_PRIORITY)


def _scope(family: socket.AddressFamily, scope: int) -> dict[str, int]:
    return {"scope": scope} if family == socket.AF_INET else {}  # routes of IPv6 have none


def _has_rule(ipr: IPRoute, family: socket.AddressFamily) -> bool:
    return any(
        rule.get_attr("FRA_IIFNAME") == INTERFACE
        and rule.get_attr("FRA_TABLE") == _TABLE
        and rule.get_attr("FRA_PRIORITY") == _PRIORITY
        for rule in ipr.get_rules(family=family)
    )
