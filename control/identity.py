"""Numbers for what has a name: identities, endpoints, rules, policy sets, services; and which identity matches what.

Maps, flow records and remembered connections hold the numbers, so a number keeps its meaning across changes and
restarts, and one whose name vanished is given away again only when no number is left that was never used.
"""

import bisect
import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from control import model
from control.policy import peers
from loader import abi

KEEP_RETIRED = 4096  # of each kind: what comes back soon gets its old number
LAST_NUMBER = (1 << 32) - 1
LOCALHOST_RULE = "Reserved//allow-localhost#"
ANY_IPV4 = model.Prefix(4, 0, 0)
ANY_IPV6 = model.Prefix(6, 0, 0)
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
    cidrs: Numbers = Numbers(abi.FIRST_CIDR_IDENTITY)  # by prefix
    endpoints: Numbers = Numbers(1)  # by namespace/name
    rules: Numbers = Numbers(1)  # by policy and path
    sets: Numbers = Numbers(1)  # by content
    services: Numbers = Numbers(1)  # by namespace/name/port/protocol/family

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

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
        except (KeyError, TypeError, AttributeError) as error:
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


def prefixes_of(policies: Iterable[model.Policy]) -> set[model.Prefix]:
    """Return every address range that a policy mentions, the two "everything" ranges left out."""
    found: set[model.Prefix] = set()
    for policy in policies:
        for section in policy.sections:
            for rule in section.rules:
                for peer in rule.peers or ():
                    if isinstance(peer, model.CidrPeer):
                        found.add(peer.prefix)
                        found.update(peer.excepts)
    return found - {ANY_IPV4, ANY_IPV6}


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


def allocate(previous: Allocation, snapshot: model.Snapshot) -> Allocation:
    """Return numbers for all that snapshot names; what had a number keeps it. Sets and services are compile's."""
    namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
    return dataclasses.replace(
        previous,
        identities=previous.identities.assign(",".join(labels_of(w, namespaces)) for w in snapshot.workloads),
        cidrs=previous.cidrs.assign(peers.show_prefix(p) for p in prefixes_of(snapshot.policies)),
        endpoints=previous.endpoints.assign(str(workload) for workload in snapshot.workloads),
        rules=previous.rules.assign([LOCALHOST_RULE, *(key for p in snapshot.policies for key in rule_keys(p))]),
    )


class Identities:
    """Every identity there is, and which of them a peer means. Built once for a snapshot, then only asked."""

    def __init__(self, snapshot: model.Snapshot, allocation: Allocation) -> None:
        namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
        self.of_workload: dict[str, int] = {}
        self.labels: dict[int, tuple[str, ...]] = {int(r): (_reserved(r),) for r in abi.ReservedIdentity if r}
        for world in _WORLDS[1:]:
            self.labels[world] = ("reserved:world", _reserved(world))
        for workload in snapshot.workloads:
            labels = labels_of(workload, namespaces)
            number = allocation.identities[",".join(labels)]
            self.of_workload[str(workload)] = number
            self.labels[number] = labels
        self.pods = frozenset(self.of_workload.values())
        self.prefixes = sorted((p, allocation.cidrs[peers.show_prefix(p)]) for p in prefixes_of(snapshot.policies))
        for prefix, number in self.prefixes:
            self.labels[number] = (f"cidr:{peers.show_prefix(prefix)}", "reserved:world")
        self._cidrs = {v: frozenset(n for p, n in self.prefixes if p.version == v) for v in (4, 6)}
        self._selected: dict[model.Peer, frozenset[int] | None] = {}
        # (source, key) -> value -> identities, each label also under the source "any".
        self._index: dict[tuple[str, str], dict[str, set[int]]] = {}
        for number, labels in self.labels.items():
            for label in labels:
                source, _, rest = label.partition(":")
                key, _, value = rest.partition("=")
                for name in (source, "any"):
                    self._index.setdefault((name, key), {}).setdefault(value, set()).add(number)

    def select(self, peer: model.Peer) -> frozenset[int] | None:
        """Return the identities that a peer means; None means any, known or not."""
        if peer not in self._selected:
            if isinstance(peer, model.Selector):
                self._selected[peer] = self._by_labels(peer)
            elif isinstance(peer, model.CidrPeer):
                self._selected[peer] = self._by_range(peer)
            else:
                self._selected[peer] = self._by_entity(peer)
        return self._selected[peer]

    def subjects(self, selector: model.Selector) -> frozenset[int]:
        """Return the pod identities that a policy with this selector selects."""
        return (self.select(selector) or frozenset()) & self.pods

    def _by_labels(self, selector: model.Selector) -> frozenset[int]:
        negative = (model.Operator.NOT_IN, model.Operator.DOES_NOT_EXIST)
        found: set[int] | None = None
        # Conditions that name what must be there come first: they make the set small.
        for requirement in sorted(selector.requirements, key=lambda r: r.operator in negative):
            values = self._index.get((requirement.source, requirement.key), {})
            named = requirement.operator in (model.Operator.IN, model.Operator.NOT_IN)
            matching: set[int] = set().union(*(values.get(v, ()) for v in (requirement.values if named else values)))
            current = set(self.labels) if found is None else found
            found = current - matching if requirement.operator in negative else current & matching
        return frozenset(self.labels if found is None else found)

    def _by_range(self, peer: model.CidrPeer) -> frozenset[int]:
        found = set(self._inside(peer.prefix))
        for inner in peer.excepts:
            found.difference_update(self._inside(inner))
        return frozenset(found)

    def _inside(self, prefix: model.Prefix) -> list[int]:
        """Return the identities of all ranges within prefix: an address has that of the longest one it is in."""
        start = bisect.bisect_left(self.prefixes, (prefix, 0))
        end = bisect.bisect_right(self.prefixes, (model.Prefix(prefix.version, prefix.last, 129), 0))
        inside = [number for _, number in self.prefixes[start:end]]
        if prefix.length == 0:
            inside.append(int(_WORLDS[1] if prefix.version == 4 else _WORLDS[2]))
        return inside

    def _by_entity(self, entity: model.Entity) -> frozenset[int] | None:
        match entity:
            case model.Entity.ALL:
                return None
            case model.Entity.NONE:
                return frozenset()
            case model.Entity.WORLD:
                return frozenset(map(int, _WORLDS)) | self._cidrs[4] | self._cidrs[6]
            case model.Entity.WORLD_IPV4:
                return frozenset((int(_WORLDS[1]),)) | self._cidrs[4]
            case model.Entity.WORLD_IPV6:
                return frozenset((int(_WORLDS[2]),)) | self._cidrs[6]
            case model.Entity.CLUSTER | model.Entity.CLUSTER_MESH:
                inside = {int(r) for r in abi.ReservedIdentity if r and r not in _WORLDS}
                return self.pods | inside
            case _:
                return frozenset((int(abi.ReservedIdentity[entity.name]),))


def _reserved(identity: abi.ReservedIdentity) -> str:
    return "reserved:" + identity.name.lower().replace("_", "-")
