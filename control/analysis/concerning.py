"""Which policies and rules say anything of the pairs that are shown: only of these there is more to tell. Pure."""

import dataclasses

from control import identity, model
from control.analysis.connectivity import unique
from control.policy import meaning, refer
from loader import abi


class Shown:
    """Calls of `origin`, to `to`: each NAMESPACE/NAME of workloads, or a NAMESPACE, or None for anybody at all."""

    def __init__(self, snapshot: model.Snapshot, origin: str | None, to: str | None) -> None:
        self._snapshot = snapshot
        # What rules refer to is written out to be judged by; who reads on is given the rules as they were.
        workloads = tuple(map(unique, snapshot.workloads))
        self._meant = refer.written_out(dataclasses.replace(snapshot, workloads=workloads))
        self._ends: dict[abi.Direction, tuple[frozenset[int] | None, frozenset[int] | None]] = {}
        if origin is not None or to is not None:
            self._identities = identity.Identities(self._meant, identity.allocate(identity.Allocation(), self._meant))
            senders, receivers = self._called(origin), self._called(to)
            self._ends = {abi.Direction.EGRESS: (senders, receivers), abi.Direction.INGRESS: (receivers, senders)}

    def _called(self, name: str | None) -> frozenset[int] | None:
        if name is None:
            return None
        return frozenset(
            self._identities.of_workload[str(unique(workload))]
            for workload in self._snapshot.workloads
            if not workload.host_network and name in (workload.namespace, f"{workload.namespace}/{workload.name}")
        )

    def rules(self) -> model.Snapshot:
        """Return the snapshot with the enforced rules alone that say anything of these calls."""
        policies = []
        for policy, meant in zip(self._snapshot.policies, self._meant.policies, strict=True):
            sections = tuple(
                dataclasses.replace(section, rules=self._kept(section, there))
                for section, there in zip(policy.sections, meant.sections, strict=True)
                if not there.audit
            )
            policies.append(dataclasses.replace(policy, sections=sections))
        return dataclasses.replace(self._snapshot, policies=tuple(policies))

    def audits(self) -> list[model.Policy]:
        """Return the policies in audit mode that would say something of these calls, were they enforced."""
        return [
            policy
            for policy in self._meant.policies
            if any(
                section.audit and not section.of_nodes and any(self._selects(section, way) for way in _ways(section))
                for section in policy.sections
            )
        ]

    def _kept(self, section: model.Section, meant: model.Section) -> tuple[model.Rule, ...]:
        rules = zip(section.rules, meant.rules, strict=True)
        return tuple(rule for rule, there in rules if self._selects(section, rule.direction) and self._names(there))

    def _selects(self, section: model.Section, way: abi.Direction) -> bool:
        if not self._ends:
            return True
        own, _ = self._ends[way]
        return not section.of_nodes and (own is None or bool(self._identities.subjects(section.subject) & own))

    def _names(self, rule: model.Rule) -> bool:
        _, others = self._ends.get(rule.direction, (None, None))
        if others is None:
            return True
        peers = meaning.peers_of(rule.peers, self._identities)
        return peers is None or bool(peers & others)


def _ways(section: model.Section) -> frozenset[abi.Direction]:
    """Return the directions in which a section says anything."""
    return section.directions | section.default_deny
