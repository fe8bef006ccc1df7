"""A snapshot ready to be asked: who everybody is, and what each pod's policy says. Built once, then only asked.

It is what an agent makes of the same files, without a node: the same resolved policies, the same entries, the same
look-up.
"""

import dataclasses
import functools
import ipaddress
import re
from collections import Counter

from control import compile as compiler
from control import evaluate, identity, model, names
from control.analysis import meant
from control.policy import meaning, refer, resolve
from control.policy_set import Meaning, PolicySet, compile_set
from loader import abi

# The name of a service, or of one of the pods behind it.
_IN_CLUSTER = re.compile(r"(?:.+\.)?([^.]+\.[^.]+)\.svc(?:\.cluster\.local)?")


class Unknown(ValueError):
    """Nobody is called so: who was meant, and what there is."""


@dataclasses.dataclass(frozen=True)
class End:
    """One end of a call. `workload` None: no policy is asked there, for it is outside, or on its node's network.

    `is_node`: it is a node, or has a node's network; `on_node`: which one's, where that is known.
    """

    name: str
    identity: int
    workload: model.Workload | None = None
    on_host: bool = False
    is_node: bool = False
    on_node: str = ""

    @property
    def is_declared(self) -> bool:
        """Tell whether it is a workload of the files, though it may be on its node's network."""
        return self.workload is not None or (self.on_host and self.is_node)


class World:
    """Everything that manifests declare, as policy sees it. `namespace`: of workloads that are named without one."""

    def __init__(self, snapshot: model.Snapshot, namespace: str = "default") -> None:
        self._namespace = namespace
        self.snapshot = refer.written_out(_apart(snapshot))
        allocation = identity.allocate(identity.Allocation(), self.snapshot)
        self.identities = identity.Identities(self.snapshot, allocation)
        self._known = Meaning(
            self.identities, meaning.named_ports(self.snapshot, self.identities), allocation.rules
        )  # fmt: skip
        self._allocation = allocation
        self._policies: dict[int, resolve.ResolvedPolicy] = {}
        self._sets: dict[tuple[int, tuple[model.ContainerPort, ...], int | None], PolicySet] = {}
        self._workloads: dict[str, list[model.Workload]] = {}
        self._by_ip: dict[str, model.Workload] = {}
        for workload in self.snapshot.workloads:
            self._workloads.setdefault(str(workload), []).append(workload)
            self._by_ip.update(dict.fromkeys(workload.ips if not workload.host_network else (), workload))
        self._node_at = {ip: node.name for node in self.snapshot.nodes for ip in node.ips}
        self._services = {ip: service for service in self.snapshot.services for ip in service.cluster_ips}
        self._service_names = {f"{service.name}.{service.namespace}": service for service in self.snapshot.services}
        self._rules = {allocation.rules[identity.LOCALHOST_RULE]: identity.LOCALHOST_RULE}
        self.sources: dict[str, tuple[model.Policy | None, str, str]] = {identity.LOCALHOST_RULE: (None, "", "")}
        for policy in self.snapshot.policies:
            for key, (path, source) in identity.rule_keys(policy).items():
                self._rules[allocation.rules[key]] = key
                self.sources[key] = policy, path, source

    @functools.cached_property
    def names(self) -> names.Names:
        """What the numbers in entries are called."""
        return compiler.names_of(self.snapshot, self._allocation, self.identities, compiler.NodeInfo(), {})

    def end(self, text: str) -> End:
        """Return who is meant by "NAMESPACE/NAME", an address, "fqdn:NAME", or "host"; raises Unknown."""
        if text.startswith("fqdn:"):
            return self._named(text.removeprefix("fqdn:"))
        if text == "host" and f"{self._namespace}/host" not in self._workloads:
            return End(text, int(abi.ReservedIdentity.HOST), on_host=True)
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return self.of(self._find(text))
        if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
            raise Unknown(f"{text} is neither plain IPv4 nor plain IPv6 (no IPv4-mapped address, and no scope)")
        if str(address) in self._services:
            raise self._is_service(text, self._services[str(address)])
        workload = self._by_ip.get(str(address))
        node = self._node_at.get(str(address), "")
        if workload:
            return self.of(self._there(workload, str(address)))
        return End(str(address), self._at(address), is_node=bool(node), on_node=node)

    def of(self, workload: model.Workload) -> End:
        """Return a workload as an end; one with its node's network is its node, where no policy is asked."""
        number = self.identities.of_workload[str(workload)]
        if workload.host_network:
            return End(str(workload), number, None, on_host=True, is_node=True, on_node=workload.node)
        return End(str(workload), number, workload)

    def policy(self, workload: model.Workload) -> resolve.ResolvedPolicy:
        """Return the resolved policy of a workload."""
        number = self.identities.of_workload[str(workload)]
        if number not in self._policies:
            self._policies.update(resolve.resolve(self.snapshot, self.identities, [number]))
        return self._policies[number]

    def selecting(self, workload: model.Workload) -> resolve.Selecting:
        """Return what selects a workload, in order."""
        number = self.identities.of_workload[str(workload)]
        return resolve.selecting(self.snapshot, self.identities, [number])[number]

    def policy_set(self, workload: model.Workload, peer: int | None = None) -> PolicySet:
        """Return the entries of a workload's policy; workloads of one identity and the same ports share them.

        `peer`: only those that a call of this identity, or to it, is looked up in.
        """
        key = self.identities.of_workload[str(workload)], workload.ports, peer
        if key not in self._sets:
            only = None if peer is None else frozenset((peer,))
            self._sets[key] = compile_set(self.policy(workload), workload.ports, self._known, only)
        return self._sets[key]

    def decide(
        self, workload: model.Workload, direction: abi.Direction, peer: int, proto: int, port: int
    ) -> evaluate.Decision:
        """Return what a workload's policy says of a call; for ICMP, port is the type."""
        found = self.policy_set(workload, peer)
        plens = found.egress_plens if direction == abi.Direction.EGRESS else found.ingress_plens
        return evaluate.lookup(found.entries, 0, plens, int(direction), peer, int(proto), port)

    def rule(self, number: int) -> str:
        """Return the key of a rule by its number; empty for 0, which is nobody's."""
        return self._rules.get(number, "")

    def meant(self, rule: resolve.ResolvedRule, workload: model.Workload) -> list[meaning.Meant]:
        """Return whom and which ports a rule of a workload's policy means."""
        return meaning.meant(rule, workload.ports, self._known.identities, self._known.named)

    def is_peer(self, rule: resolve.ResolvedRule, peer: int) -> bool:
        """Tell whether a rule means a peer, at whatever port."""
        found = meaning.peers_of(rule.peers, self.identities)
        return found is None or peer in found

    def is_port(self, rule: resolve.ResolvedRule, workload: model.Workload, peer: int, proto: int, port: int) -> bool:
        """Tell whether a rule of a workload's policy means a port, were it for the peer."""
        if rule.ports is None:
            return True
        if rule.direction == abi.Direction.INGRESS:
            is_named = {p.name for p in workload.ports if (p.protocol, p.port) == (proto, port)}
        else:
            is_named = {name for name, at in self._known.named.items() if (proto, port) in at.get(peer, ())}
        return any(
            spec.proto == proto and (spec.name in is_named if spec.name else spec.first <= port <= spec.last)
            for spec in rule.ports
        )

    def _find(self, text: str) -> model.Workload:
        namespace, slash, name = text.partition("/")
        key = text if slash else f"{self._namespace}/{namespace}"
        if found := self._workloads.get(key):
            return found[0]
        if found := self._workloads.get(self.snapshot.folded.get(key, "")):
            return self._there(found[0], key)
        for called in (f"{name}.{namespace}", meant.service_name(text, self._namespace)):
            if called in self._service_names:
                raise self._is_service(text, self._service_names[called])
        near = [each for each in sorted(self._workloads) if each.endswith(f"/{name or namespace}")]
        there = near or sorted(self._workloads)
        more = "" if len(there) <= 10 else ", ..."
        if kinds := [each for each in near if each.split("/")[::2] == key.split("/")]:
            raise Unknown(f"several kinds are called {key} (say which: {', '.join(kinds)})")
        is_told = near and not meant.service_name(text, self._namespace)
        hint = self._owner_of(key) or ("" if is_told else meant.hint(text, key, self._workloads))
        raise Unknown(f"no workload is called {text} ({', '.join(there[:10]) or 'none is declared'}{more}){hint}")

    def _is_service(self, text: str, service: model.Service) -> Unknown:
        return Unknown(meant.is_service(text, service, self.snapshot))

    def _there(self, workload: model.Workload, pod: str) -> model.Workload:
        """Return who stands for a pod, as it is on that pod's node, where one of its pods was named."""
        return dataclasses.replace(workload, node=self.snapshot.folded_nodes.get(pod, workload.node))

    def _owner_of(self, key: str) -> str:
        """Return who stands for the pod that may have been meant: the name of each begins with its controller's."""
        begun = max((name for name in self._workloads if key.startswith(f"{name}-")), key=len, default="")
        owner = self._workloads[begun][0] if begun else None
        return f"; {begun} is a {owner.kind}: use {begun}" if owner and owner.kind != "Pod" else ""

    def _at(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
        bits = address.max_prefixlen
        for length in range(bits, -1, -1):
            prefix = model.Prefix(address.version, int(address) >> (bits - length) << (bits - length), length)
            if prefix in self.identities.addresses:
                return self.identities.addresses[prefix]
        return int(abi.ReservedIdentity.WORLD_IPV4 if bits == 32 else abi.ReservedIdentity.WORLD_IPV6)

    def _named(self, name: str) -> End:
        """Return whoever has that DNS name: its learned address, or else one in no range that any rule names."""
        inside = _IN_CLUSTER.fullmatch(name)
        if inside and inside[1] in self._service_names:
            raise self._is_service(name, self._service_names[inside[1]])
        learned = self.snapshot.learned.get(name)
        if not learned:
            raise Unknown(f"nothing is known of the name {name}")
        return End(f"fqdn:{name}", self._at(ipaddress.ip_address(learned[0])))


def _apart(snapshot: model.Snapshot) -> model.Snapshot:
    """Return the snapshot with names that tell all workloads apart: "KIND/NAME" where two kinds share one."""
    shared = Counter(map(str, snapshot.workloads))
    if len(shared) == len(snapshot.workloads):
        return snapshot
    found = (dataclasses.replace(w, name=f"{w.kind}/{w.name}") if shared[str(w)] > 1 else w for w in snapshot.workloads)
    return dataclasses.replace(snapshot, workloads=tuple(found))
