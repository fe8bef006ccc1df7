"""Whom and which ports a resolved rule means right now: in numbers, as the maps hold them."""

from control import identity, model
from control.policy import resolve
from loader import abi

# The name of a container port -> identity -> what it is there.
NamedPorts = dict[str, dict[int, set[tuple[abi.Proto, int]]]]
# Peers (None: any) and ports in numbers.
Meant = tuple[frozenset[int] | None, tuple[model.PortSpec, ...] | None]


def named_ports(snapshot: model.Snapshot, identities: identity.Identities) -> NamedPorts:
    """Return what container ports are called, by whom: not by pods on their node's network, for all nodes that are
    alike would have these ports then, and that one's own node, which is another identity, would not.
    """
    out: NamedPorts = {}
    for workload in snapshot.workloads:
        for port in workload.ports if not workload.host_network else ():
            of_name = out.setdefault(port.name, {})
            of_name.setdefault(identities.of_workload[str(workload)], set()).add((port.protocol, port.port))
    return out


def meant(
    rule: resolve.ResolvedRule,
    ports: tuple[model.ContainerPort, ...],
    identities: identity.Identities,
    named: NamedPorts,
) -> list[Meant]:
    """Return whom and which ports a rule means; a port name is the subject's at ingress, and each peer's at egress."""
    numbered = None if rule.ports is None else tuple(spec for spec in rule.ports if not spec.name)
    whom = rule.peers
    if whom is not None and numbered == () and rule.direction == abi.Direction.EGRESS:
        # Port names are those of workloads, which no range means, and a range may mean thousands of places.
        whom = tuple(peer for peer in whom if not isinstance(peer, model.CidrPeer))
    peers = peers_of(whom, identities)
    if peers == frozenset():
        return []
    out: list[Meant] = [(peers, numbered)] if numbered is None or numbered else []
    for spec in rule.ports or ():
        if not spec.name:
            continue
        if rule.direction == abi.Direction.INGRESS:
            found = {(port.protocol, port.port) for port in ports if port.name == spec.name}
            if specs := _specs(spec, found):
                out.append((peers, specs))
            continue
        for number, found in sorted(named.get(spec.name, {}).items()):
            if (peers is None or number in peers) and (specs := _specs(spec, found)):
                out.append((frozenset((number,)), specs))
    return out


def _specs(spec: model.PortSpec, found: set[tuple[abi.Proto, int]]) -> tuple[model.PortSpec, ...]:
    """Return the numbers that a port name stands for; one of another protocol is not meant."""
    return tuple(model.PortSpec(proto, port, port) for proto, port in sorted(found) if proto == spec.proto)


def peers_of(wanted: tuple[model.Peer, ...] | None, identities: identity.Identities) -> frozenset[int] | None:
    """Return the identities that any of the peers means; None means any."""
    if wanted is None:
        return None
    found: set[int] = set()
    for peer in wanted:
        selected = identities.select(peer)
        if selected is None:
            return None
        found |= selected
    return frozenset(found)
