"""Numbers for what has a name: identities, endpoints, rules, policy sets, services; and which identity matches what.

Maps, flow records and remembered connections hold the numbers, so a number keeps its meaning across changes and
restarts, and one whose name vanished is given away again only when no number is left that was never used.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from control import model, places
from control.policy import dnsnames, selections, selectors
from loader import abi

KEEP_RETIRED = 4096  # of each kind: what comes back soon gets its old number
LAST_NUMBER = (1 << 32) - 1
LOCALHOST_RULE = "Reserved//allow-localhost#"
_WORLDS = (abi.ReservedIdentity.WORLD, abi.ReservedIdentity.WORLD_IPV4, abi.ReservedIdentity.WORLD_IPV6)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of one kind, by name. `retired` are names that vanished, oldest first."""

    first: int
    last: int = LAST_NUMBER
    next: int = 0
    used: Mapping[str, int] = dataclasses.field(default_factory=dict)
    retired: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def assign(self, names: Iterable[str]) -> "Numbers":
        """Return the numbers with exactly these names in use; raises ValueError when there are too many."""
        used: dict[str, int] = {}
        retired = dict(self.retired)
        upcoming = max(self.next, self.first)
        missing = []
        for name in sorted(set(names)):
            number = self.used.get(name)
            if number is None:
                number = retired.pop(name, None)
            if number is None:
                missing.append(name)
            else:
                used[name] = number
        retired.update((name, number) for name, number in self.used.items() if name not in used)
        for name in missing:
            if upcoming <= self.last:
                used[name], upcoming = upcoming, upcoming + 1
            elif retired:
                used[name] = retired.pop(next(iter(retired)))
            else:
                raise ValueError(f"no number is left between {self.first} and {self.last}")
        if upcoming <= self.last:  # once all numbers have been used, the retired ones are the only free ones
            for name in list(retired)[: max(0, len(retired) - KEEP_RETIRED)]:
                del retired[name]
        return Numbers(self.first, self.last, upcoming, used, retired)

    def __getitem__(self, name: str) -> int:
        return self.used[name]


@dataclasses.dataclass(frozen=True)
class Allocation:
    """All numbers that are given out. The agent writes `to_json()` into its run directory and reads it at start."""

    identities: Numbers = Numbers(abi.FIRST_POD_IDENTITY, abi.FIRST_CIDR_IDENTITY - 1)  # by label set
    cidrs: Numbers = Numbers(abi.FIRST_CIDR_IDENTITY)  # by places.Place.name
    endpoints: Numbers = Numbers(1)  # by namespace/name; here each is a place's, whatever its name (agent/numbering.py)
    rules: Numbers = Numbers(1)  # by policy and path
    sets: Numbers = Numbers(1)  # by content
    services: Numbers = Numbers(1)  # by namespace/name/port/protocol/family

    def to_json(self) -> str:
        return json.dumps(vars(self), default=vars)  # asdict would copy it all

    @classmethod
    def from_json(cls, text: str) -> "Allocation":
        """Return what `to_json` wrote; raises ValueError on anything else."""
        try:
            raw: dict[str, Any] = json.loads(text)
            parts = {}
            for part in dataclasses.fields(cls):
                numbers = Numbers(**raw[part.name])
                bounds = (numbers.first, numbers.last, numbers.next, *numbers.used.values(), *numbers.retired.values())
                if not all(isinstance(n, int) and 0 <= n <= LAST_NUMBER + 1 for n in bounds):
                    raise TypeError(f"{part.name}: not a number")
                parts[part.name] = numbers
            return cls(**parts)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not an allocation file: {error!r}") from error


def labels_of(workload: model.Workload, namespaces: Mapping[str, model.Namespace]) -> tuple[str, ...]:
    """Return the label set that makes a workload's identity, sorted."""
    namespace = namespaces.get(workload.namespace)
    of_namespace = {**(namespace.labels if namespace else {}), model.NAMESPACE_NAME_LABEL: workload.namespace}
    labels = {
        **workload.labels,
        **{model.NAMESPACE_LABEL_PREFIX + k: v for k, v in of_namespace.items()},
        model.NAMESPACE_KEY: workload.namespace,
        model.SERVICE_ACCOUNT_KEY: workload.service_account,
        model.CLUSTER_KEY: model.CLUSTER_NAME,
    }
    return tuple(sorted(f"k8s:{k}={v}" for k, v in labels.items()))


def labelled(snapshot: model.Snapshot) -> Iterator[tuple[model.Workload, tuple[str, ...]]]:
    """Yield each workload with its label set."""
    namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
    return ((workload, labels_of(workload, namespaces)) for workload in snapshot.workloads)


def rule_keys(policy: model.Policy) -> dict[str, tuple[str, str]]:
    """Return the key of everything in a policy that can decide, with its path and source."""
    out = {}
    for section in policy.sections:
        for direction in abi.Direction:
            path = f"{section.path}.{direction.name.lower()}"
            out[default_key(policy, section, direction)] = (path, section.source)
        for rule in section.rules:
            out[f"{policy.key}#{rule.path}"] = (rule.path, rule.source)
    return out


def default_key(policy: model.Policy, section: model.Section, direction: abi.Direction) -> str:
    """Return the key of a section's default: what it does by selecting an endpoint at all."""
    return f"{policy.key}#{section.path}.{direction.name.lower()}"


def allocate(
    previous: Allocation, snapshot: model.Snapshot, cluster: Collection[model.Prefix] = ()
) -> Allocation:  # fmt: skip
    """Return numbers for all that snapshot names; what had a number keeps it. Sets and services are compile's."""
    namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
    pods = (w for w in snapshot.workloads if not w.host_network)
    return dataclasses.replace(
        previous,
        identities=previous.identities.assign(",".join(labels_of(w, namespaces)) for w in pods),
        cidrs=previous.cidrs.assign(place.name for place in places.places(snapshot, cluster).values()),
        endpoints=previous.endpoints.assign(str(workload) for workload in snapshot.workloads),
        rules=previous.rules.assign([LOCALHOST_RULE, *(key for p in snapshot.policies for key in rule_keys(p))]),
    )


class Identities:
    """Every identity there is, and which of them a peer means. Built once for a snapshot, then only asked.

    The snapshot's policies are without references (refer.written_out). `cluster`: where unmanaged pods are (places.py).
    `addresses`: the numbers of all places outside pods, by prefix.
    """

    def __init__(
        self, snapshot: model.Snapshot, allocation: Allocation, cluster: Collection[model.Prefix] = ()
    ) -> None:  # fmt: skip
        namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
        self._selections = selections.Selections()
        self.labels = self._selections.labels
        for reserved in filter(None, abi.ReservedIdentity):
            more = ("reserved:world",) if reserved in _WORLDS[1:] else ()
            self._selections.add(int(reserved), (*more, _reserved(reserved)))
        found = places.places(snapshot, cluster)
        self.addresses = {prefix: allocation.cidrs[place.name] for prefix, place in found.items()}
        within = []
        for prefix, place in found.items():
            self._selections.add(self.addresses[prefix], place.labels)
            if place.within is not None:
                within.append((place.within, self.addresses[prefix]))
        # What no rule names has a reserved identity, and is inside of "everything".
        self._inside = places.Inside([*within, *zip((places.ANY_IPV4, places.ANY_IPV6), _WORLDS[1:], strict=True)])
        by_node = {node.name: self.addresses[places.host(ip)] for node in snapshot.nodes for ip in node.ips}
        self.of_workload: dict[str, int] = {}
        for workload in snapshot.workloads:
            if workload.host_network:
                number = by_node.get(workload.node, int(abi.ReservedIdentity.REMOTE_NODE))
            else:
                labels = labels_of(workload, namespaces)
                number = allocation.identities[",".join(labels)]
                self._selections.add(number, labels)
            self.of_workload[str(workload)] = number
        self.pods = self._selections.select(model.Selector((selectors.IS_ENDPOINT,)))

    def select(self, peer: model.Peer) -> frozenset[int] | None:
        """Return the identities that a peer means; None means any, known or not."""
        match peer:
            case model.Selector():
                return self._selections.select(peer)
            case model.CidrPeer():
                return self._by_range(peer)
            case model.NamePeer():
                return self._selections.select(_labelled(f"fqdn:{dnsnames.show(peer)}"))
            case model.NodePeer():
                is_node = _labelled(places.REMOTE_NODE)
                return self._selections.select(peer.selector.with_requirements(*is_node.requirements))
            case model.Entity():
                return self._by_entity(peer)
            case _:
                raise AssertionError(f"a reference was not written out: {peer}")

    def subjects(self, selector: model.Selector) -> frozenset[int]:
        """Return the pod identities that a policy with this selector selects."""
        return self._selections.select(selector) & self.pods

    def _by_range(self, peer: model.CidrPeer) -> frozenset[int]:
        found = set(self._inside(peer.prefix))
        for inner in peer.excepts:
            found.difference_update(self._inside(inner))
        return frozenset(found)

    def _by_entity(self, entity: model.Entity) -> frozenset[int] | None:
        match entity:
            case model.Entity.ALL:
                return None
            case model.Entity.NONE:
                return frozenset()
            case model.Entity.CLUSTER | model.Entity.CLUSTER_MESH:
                inside = [r for r in abi.ReservedIdentity if r and r not in _WORLDS]
                return self.pods.union(*(self._selections.select(_labelled(_reserved(r))) for r in inside))
            case _:
                return self._selections.select(_labelled(f"reserved:{entity.value}"))


def _labelled(label: str) -> model.Selector:
    """Return the selector of whoever has a label, "source:key"."""
    source, _, key = label.partition(":")
    return model.Selector((model.Requirement(source, key, model.Operator.EXISTS),))


def _reserved(identity: abi.ReservedIdentity) -> str:
    return "reserved:" + identity.name.lower().replace("_", "-")
