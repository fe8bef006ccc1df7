"""One scenario, with the short cut and without: what it finds must be the same, the mesh's records tell the rest."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from loader import abi
from tests.hosts import Mesh
from tests.hosts.wait import wait_until

Json = dict[str, Any]
LONG = 4 << 20  # bytes on one connection that make it a long-lived one


@dataclasses.dataclass(frozen=True)
class Closed:
    """A connection's close record."""

    source: str
    destination: str
    port: int
    sent: int
    received: int
    short_cut: int  # bytes of both directions
    reasons: tuple[str, str]  # at its source and at its destination

    @property
    def total(self) -> int:
        return self.sent + self.received


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a scenario found, and every connection that it made."""

    result: Any
    closed: tuple[Closed, ...]

    def to(self, port: int) -> tuple[Closed, ...]:
        return tuple(each for each in self.closed if each.port == port)

    def carried(self, port: int) -> int:
        """Return how many bytes of connections to the port took the short cut."""
        return sum(each.short_cut for each in self.to(port))

    def share(self, port: int, long: int = LONG) -> float:
        """Return the part of the bytes of long-lived connections to the port that took the short cut."""
        chosen = [each for each in self.to(port) if each.total >= long]
        assert chosen, f"no connection to port {port} moved {long} bytes: {self.to(port)}"
        return sum(each.short_cut for each in chosen) / sum(each.total for each in chosen)

    def reasons(self, port: int) -> Counter[tuple[str, str]]:
        return Counter(each.reasons for each in self.to(port))


def both(mesh: Mesh, scenario: Callable[[], Any]) -> tuple[Trial, Trial]:
    """Run the scenario with the short cut and without; AssertionError if what it returns is not the same.

    A scenario ends its programs, so that none of its connections outlives it.
    """
    with_it, without = run(mesh, "on", scenario), run(mesh, "off", scenario)
    assert with_it.result == without.result, f"with the short cut {with_it.result}, without {without.result}"
    stray = [each for each in without.closed if each.short_cut]
    assert not stray, f"the short cut is off, and yet it carried {stray}"
    return with_it, without


def run(mesh: Mesh, acceleration: str, scenario: Callable[[], Any]) -> Trial:
    mesh.call("set", acceleration=acceleration)
    start = len(mesh.flows())
    try:
        result = scenario()
    except AssertionError as error:
        raise AssertionError(f"acceleration {acceleration}: {error}\n{_open_now(mesh)}") from error
    mesh.settle()  # the agent has read every open by now: one that it reads later would be the next trial's
    wait_until(lambda: not _left_open(mesh.flows()[start:]), "every connection's close is on record", 15)
    with mesh.open_maps() as maps:
        assert maps.counter(abi.Metric.EVENTS_LOST) == 0
    flows = mesh.flows()[start:]
    begun = set(map(_name, _events(flows, "open")))  # what began before may end during the scenario
    closed = tuple(_closed(flow) for flow in _events(flows, "close") if _name(flow) in begun)
    assert closed, "nothing went through the mesh"
    return Trial(result, closed)


def _ours(flow: Json) -> Json:
    value = flow.get("extensions", {}).get("value", {}).get("sockmesh", {})
    return value if isinstance(value, dict) else {}


def _events(flows: Iterable[Json], event: str) -> list[Json]:
    return [flow for flow in flows if _ours(flow).get("event") == event and "TCP" in flow.get("l4", {})]


def _name(flow: Json) -> tuple[str, int, str, int]:
    ports = flow["l4"]["TCP"]
    return flow["IP"]["source"], ports["source_port"], flow["IP"]["destination"], ports["destination_port"]


def _left_open(flows: list[Json]) -> bool:
    """A port may be used again, so connections are counted, not only named."""
    opened = Counter(map(_name, _events(flows, "open")))
    return bool(opened - Counter(map(_name, _events(flows, "close"))))


def _closed(flow: Json) -> Closed:
    ours = _ours(flow)
    why = ours.get("short_cut_reason", {})
    return Closed(
        flow.get("source", {}).get("pod_name", "?"),
        flow.get("destination", {}).get("pod_name", "?"),
        flow["l4"]["TCP"]["destination_port"],
        int(ours["bytes_sent"]),
        int(ours["bytes_received"]),
        int(ours["short_cut_bytes_sent"]) + int(ours["short_cut_bytes_received"]),
        (why.get("source", ""), why.get("destination", "")),
    )


def _open_now(mesh: Mesh) -> str:
    """Say what the kernel knows of the connections that are still there: a stall's first clue."""
    with mesh.open_maps() as maps:
        return "\n".join(f"open: {key.port0} - {key.port1}: {conn}" for key, conn in list(maps.conns.items())[:20])
