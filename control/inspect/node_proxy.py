"""The node proxy as `sockmesh status` shows it: whether an agent leads anything there, and whether it is there."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from control.flow.summary import counted
from control.source.unserved import REMEDY
from loader import abi

START = "start `sockmesh proxy`"


@dataclasses.dataclass(frozen=True)
class NodeProxy:
    """`entries` of policy ask for it. What it says of itself the agent knows: without one that answers it is None."""

    on: bool = False  # the kernel leads to it what asks for it; off: that is refused
    entries: int = 0
    connected: int | None = None
    workers: int | None = None  # processes; None also while no proxy has told
    lost: int = 0  # records of requests for which the agent had no room

    @property
    def is_missed(self) -> bool:
        """Tell whether something waits for it and it is not there."""
        return self.on and self.entries > 0 and self.connected == 0


OFF = NodeProxy()


def entries(policy: Iterable[tuple[abi.PolicyKey, abi.PolicyValue]]) -> int:
    """Return how many entries that are enforced ask for the proxy."""
    return sum(bool(value.present) and value.verdict == abi.Verdict.PROXY for _, value in policy)


def read(config: abi.Config, asking: int, agent: Mapping[str, Any] | None) -> NodeProxy:
    """Return its state by the maps, and by the agent's own words if there are any."""
    told = (agent or {}).get("proxy") or {}
    connected, workers = told.get("connected"), told.get("workers")
    return NodeProxy(bool(config.proxy_ifindex), asking, connected, workers or None, told.get("lost", 0))


def word(proxy: NodeProxy) -> str:
    """Return that in a line."""
    if not proxy.on:
        asking = _asking(proxy, "its connections are refused", "their connections are refused")
        return f"off: {asking} ({REMEDY})" if proxy.entries else "off"
    if proxy.is_missed:
        return f"NONE CONNECTED: {missed(proxy)}"
    known = "on" if proxy.connected is None else f"on: {proxy.connected or 'none'} connected"
    parts = [known, *([counted(proxy.workers, "worker")] if proxy.workers else [])]
    parts.append(counted(proxy.entries, "entry needs it", "entries need it"))
    return ", ".join([*parts, *([f"{counted(proxy.lost, 'record')} LOST"] if proxy.lost else [])])


def missed(proxy: NodeProxy) -> str:
    """Return what it means that it is missed, and the remedy."""
    waits = _asking(proxy, "what it asks to be looked into waits", "what they ask to be looked into waits")
    return f"{waits} ({START})"


def _asking(proxy: NodeProxy, one: str, many: str) -> str:
    return f"{counted(proxy.entries, 'entry needs it', 'entries need it')}, and {one if proxy.entries == 1 else many}"


def colour(proxy: NodeProxy) -> str:
    if proxy.is_missed or proxy.lost:
        return "red"
    if not proxy.on:
        return "yellow" if proxy.entries else ""
    return "green" if proxy.connected else ""


def brief(proxy: NodeProxy) -> str:
    """Return what a monitor must see of it; nothing if all is well."""
    entries = counted(proxy.entries, "L7 entry", "L7 entries")
    if proxy.is_missed:
        return f"{entries} WAITING FOR A PROXY"
    return f"{entries} REFUSED" if proxy.entries and not proxy.on else ""
