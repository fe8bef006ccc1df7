"""Snapshot to map entries: exactly what the kernel should hold, as the records of loader/abi/.

A policy set's number follows from its content, so a set never changes under a number: the agent writes the new entries
first, flips the `Endpoint` record, and deletes the old entries last.
"""

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping

from control import identity, model, names, places
from control.policy import meaning, peers, refer, resolve
from control.policy_set import L7, Meaning, PolicySet, compile_set
from loader import abi, record

MAP_NAMES = (
    "endpoints", "endpoint_ips", "endpoint_netns", "endpoint_ifaces", "ipcache", "policy", "services", "backends",
)  # fmt: skip
UNKNOWN_NSID = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class EndpointFacts:
    """What the agent found out about a workload that runs here. Zero: not known."""

    netns_cookie: int = 0
    ifindex: int = 0
    nsid: int = UNKNOWN_NSID
    has_cgroup: bool = False
    mac: int = 0  # of the pod's own interface, as the maps hold it
    direct: bool = False  # its host-side interface is one that packets may pass by
    inlet: int = 0  # the interface by which its packets come to the host's routing
    unshaped: bool = False  # no queue there shapes what passes: bytes may pass it by, too

    def without_sockets(self) -> "EndpointFacts":
        """Return what is left where the namespace's sockets are another's."""
        return EndpointFacts(ifindex=self.ifindex, mac=self.mac)


@dataclasses.dataclass(frozen=True)
class NodeInfo:
    """This node: its own addresses, and the ranges in which an address without a workload is an unmanaged pod."""

    name: str = ""
    ips: tuple[str, ...] = ()
    cidr: tuple[str, ...] = ()
    has_proxy: bool = False  # what policy wants to be looked into is led to the node proxy


@dataclasses.dataclass(frozen=True)
class Desired:
    """The wanted content of every map that follows from the snapshot. `Service.next` is the kernel's to move."""

    maps: Mapping[str, Mapping[record.Record, record.Record]]
    l7: Mapping[int, Mapping[abi.PolicyKey, L7]] = dataclasses.field(default_factory=dict)  # by policy set

    def __getitem__(self, name: str) -> Mapping[record.Record, record.Record]:
        return self.maps[name]


Facts = Mapping[tuple[str, str], EndpointFacts]


def compile_state(
    snapshot: model.Snapshot, allocation: identity.Allocation, facts: Facts, node: NodeInfo
) -> tuple[Desired, names.Names, identity.Allocation]:
    """Return what the maps must hold, what the numbers in them are called, and the numbers given out."""
    snapshot = refer.written_out(snapshot)
    cluster = tuple(map(peers.parse_prefix, node.cidr))
    allocation = identity.allocate(allocation, snapshot, cluster)
    identities = identity.Identities(snapshot, allocation, cluster)
    local = [
        w for w in snapshot.workloads if w.is_local(node.name) and (w.namespace, w.name) in facts and not w.host_network
    ]
    known = Meaning(identities, meaning.named_ports(snapshot, identities), allocation.rules)
    resolved = resolve.resolve(snapshot, identities, {identities.of_workload[str(w)] for w in local})
    subjects = {str(w): (identities.of_workload[str(w)], w.ports) for w in local}
    sets = {
        (number, ports): compile_set(resolved[number], ports, known)
        for number, ports in dict.fromkeys(subjects.values())
    }
    allocation = dataclasses.replace(allocation, sets=allocation.sets.assign(s.digest for s in sets.values()))
    maps: dict[str, dict[record.Record, record.Record]] = {name: {} for name in MAP_NAMES}
    maps["ipcache"] = _ipcache(snapshot, identities, node)
    host_ips = set(node.ips)
    for workload in local:
        fact = facts[workload.namespace, workload.name]
        policy_set = sets[subjects[str(workload)]]
        ref = abi.EndpointRef(allocation.endpoints[str(workload)])
        maps["endpoints"][abi.EndpointKey(ref.id)] = abi.Endpoint(
            id=ref.id,
            identity=identities.of_workload[str(workload)],
            set_id=allocation.sets[policy_set.digest],
            flags=_flags(workload, fact, policy_set, node),
            ifindex=fact.ifindex,
            ingress_plens=policy_set.ingress_plens,
            egress_plens=policy_set.egress_plens,
            netns_cookie=fact.netns_cookie,
            nsid=fact.nsid,
            mac=fact.mac,
            inlet=fact.inlet,
            addr4=_first(workload.ips, 4),
            addr6=_first(workload.ips, 6),
        )
        for ip in workload.ips:
            if ip not in host_ips:
                maps["endpoint_ips"][abi.AddrKey(record.pack_addr(ip))] = ref
        if fact.netns_cookie:
            maps["endpoint_netns"][abi.NetnsKey(fact.netns_cookie)] = ref
        if fact.ifindex:
            maps["endpoint_ifaces"][abi.IfaceKey(fact.ifindex)] = ref
    l7 = {}
    for policy_set in {s.digest: s for s in sets.values()}.values():
        number = allocation.sets[policy_set.digest]
        for key, value in policy_set.entries.items():
            maps["policy"][dataclasses.replace(key, set_id=number)] = value
        if policy_set.l7:
            l7[number] = policy_set.l7
    allocation, service_names = _services(snapshot, allocation, facts, node, maps["services"], maps["backends"])
    return Desired(maps, l7), names_of(snapshot, allocation, identities, node, service_names), allocation


def _first(ips: Iterable[str], version: int) -> bytes:
    """Return the first address of a family as the maps hold it, zero where there is none."""
    return next((record.pack_addr(ip) for ip in ips if (6 if ":" in ip else 4) == version), bytes(16))


def _flags(workload: model.Workload, fact: EndpointFacts, policy_set: PolicySet, node: NodeInfo) -> int:
    flags = abi.EndpointFlag.ENROLLED
    if node.has_proxy:
        flags |= abi.EndpointFlag.PROXIED
    if workload.accelerate:
        flags |= abi.EndpointFlag.ACCELERATE
    if fact.has_cgroup:
        flags |= abi.EndpointFlag.HAS_CGROUP
    if fact.direct:
        flags |= abi.EndpointFlag.DIRECT
    if fact.unshaped:
        flags |= abi.EndpointFlag.UNSHAPED
    if policy_set.has_audit:
        flags |= abi.EndpointFlag.HAS_AUDIT
    return int(flags)


def ipcache_key(prefix: model.Prefix) -> abi.IpcacheKey:
    """Return the LPM key of a range."""
    if prefix.version == 4:
        return abi.IpcacheKey(96 + prefix.length, bytes(10) + b"\xff\xff" + prefix.address.to_bytes(4, "big"))
    return abi.IpcacheKey(prefix.length, prefix.address.to_bytes(16, "big"))


def _ipcache(
    snapshot: model.Snapshot, identities: identity.Identities, node: NodeInfo
) -> dict[record.Record, record.Record]:
    # Later ones take the place of earlier ones: a range that a policy names never hides a pod or the node itself.
    numbers = {places.ANY_IPV4: int(abi.ReservedIdentity.WORLD_IPV4)}
    numbers[places.ANY_IPV6] = int(abi.ReservedIdentity.WORLD_IPV6)
    numbers.update((peers.parse_prefix(text), int(abi.ReservedIdentity.UNMANAGED)) for text in node.cidr)
    numbers.update(identities.addresses)
    for workload in snapshot.workloads:
        if not workload.host_network:  # its addresses are its node's
            numbers.update((places.host(ip), identities.of_workload[str(workload)]) for ip in workload.ips)
    numbers.update((places.host(ip), int(abi.ReservedIdentity.HOST)) for ip in node.ips)
    meshed = _meshed(snapshot, node)
    return {
        ipcache_key(prefix): abi.IpcacheValue(number, flags=int(abi.IpcacheFlag.MESH) if prefix in meshed else 0)
        for prefix, number in numbers.items()
    }


def _meshed(snapshot: model.Snapshot, node: NodeInfo) -> set[model.Prefix]:
    """Return the addresses of pods that are enrolled on other nodes, and that nobody here has, too."""
    theirs: set[str] = set()
    ours = set(node.ips)
    for workload in snapshot.workloads:
        if not workload.host_network:
            (ours if workload.is_local(node.name) else theirs).update(workload.ips)
    return set(map(places.host, theirs - ours))


def _services(
    snapshot: model.Snapshot,
    allocation: identity.Allocation,
    facts: Facts,
    node: NodeInfo,
    services: dict[record.Record, record.Record],
    backends: dict[record.Record, record.Record],
) -> tuple[identity.Allocation, dict[int, names.ServiceName]]:
    """Fill the two load balancing maps: one service number per service, port, protocol and address family."""
    wanted: dict[str, tuple[model.Service, model.ServicePort, int]] = {}
    for service in snapshot.services:
        for port in service.ports:
            for family in sorted({int(ipaddress.ip_address(ip).version) for ip in service.cluster_ips}):
                key = f"{service.namespace}/{service.name}/{port.port}/{port.protocol.name}/{family}"
                wanted[key] = (service, port, family)
    allocation = dataclasses.replace(allocation, services=allocation.services.assign(wanted))
    by_namespace: dict[str, list[model.Workload]] = {}
    for workload in snapshot.workloads:
        if _is_ready(workload, facts, node):
            by_namespace.setdefault(workload.namespace, []).append(workload)
    found: dict[int, names.ServiceName] = {}
    for key, (service, port, family) in wanted.items():
        number = allocation.services[key]
        ips = tuple(ip for ip in service.cluster_ips if ipaddress.ip_address(ip).version == family)
        found[number] = names.ServiceName(number, service.namespace, service.name, ips)
        targets = _targets(service, port, by_namespace.get(service.namespace, []), family)
        for ip in ips:
            address = abi.ServiceKey(record.pack_addr(ip), port.port, int(port.protocol))
            services[address] = abi.Service(number, len(targets), 0)
        for index, (ip, target) in enumerate(targets):
            backends[abi.BackendKey(number, index)] = abi.Backend(record.pack_addr(ip), target)
    return allocation, found


def _is_ready(workload: model.Workload, facts: Facts, node: NodeInfo) -> bool:
    """Tell whether calls may be sent there: a workload that should run here must have been found here."""
    runs_here = workload.is_local(node.name) and bool(workload.netns or workload.interface)
    return not runs_here or (workload.namespace, workload.name) in facts


def _targets(
    service: model.Service, port: model.ServicePort, workloads: list[model.Workload], family: int
) -> list[tuple[str, int]]:
    out: list[tuple[str, int]] = []
    number = port.target_port or port.port
    if not service.selector and isinstance(number, int):
        out += [(ip, number) for ip in service.endpoints]
    for workload in workloads if service.selector else ():
        if any(workload.labels.get(k) != v for k, v in service.selector.items()):
            continue
        for named in [number] if isinstance(number, int) else workload.ports:
            if isinstance(named, int):
                out += [(ip, named) for ip in workload.ips]
            elif named.name == number and named.protocol == port.protocol:
                out += [(ip, named.port) for ip in workload.ips]
    return [(ip, target) for ip, target in out if ipaddress.ip_address(ip).version == family]


def names_of(
    snapshot: model.Snapshot,
    allocation: identity.Allocation,
    identities: identity.Identities,
    node: NodeInfo,
    services: Mapping[int, names.ServiceName],
) -> names.Names:
    """Return what the numbers that a snapshot was given are called."""
    endpoints: dict[int, names.EndpointName] = {}
    remote: dict[str, names.EndpointName] = {}
    for w in snapshot.workloads:
        number = identities.of_workload[str(w)]
        endpoint_id = allocation.endpoints[str(w)] if w.is_local(node.name) else 0
        name = names.EndpointName(
            endpoint_id, w.namespace, w.name, number, identities.labels[number], w.ips,
            w.service_account, w.netns, w.interface, w.cgroup,
        )  # fmt: skip
        if endpoint_id:
            endpoints[endpoint_id] = name
        else:
            remote.update(dict.fromkeys(w.ips, name))
    localhost = allocation.rules[identity.LOCALHOST_RULE]
    rules = {localhost: names.RuleName("Reserved", "", "allow-localhost")}
    for policy in snapshot.policies:
        for key, (path, source) in identity.rule_keys(policy).items():
            rule = names.RuleName(policy.kind, policy.namespace, policy.name, path, source, policy.labels)
            rules[allocation.rules[key]] = rule
    return names.Names(node.name, endpoints, remote, identities.labels, rules, services)
