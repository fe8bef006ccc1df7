"""What only all files together can tell of a port name in a policy: whether any pod that is meant has it."""

import dataclasses
from collections.abc import Iterable, Iterator

from control import identity, model
from control.policy import field, meaning, ports, refer
from control.source import remarks
from loader import abi

MOST_NAMES = 10  # in a message


def unnamed_ports(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each port name of a rule that none of the pods has whose port it would be."""
    if not any(spec.name for p in snapshot.policies for s in p.sections for r in s.rules for spec in r.ports or ()):
        return
    snapshot = refer.written_out(snapshot)
    naming = [
        (policy, section, rule)
        for policy in snapshot.policies
        for section in policy.sections
        for rule in section.rules
        if any(spec.name for spec in rule.ports or ())
    ]
    # Two workloads of different kinds may share a name.
    apart = (dataclasses.replace(w, name=f"{w.kind}/{w.name}") for w in snapshot.workloads)
    snapshot = dataclasses.replace(snapshot, workloads=tuple(apart))
    identities = identity.Identities(snapshot, identity.allocate(identity.Allocation(), snapshot))
    there: dict[int, list[model.ContainerPort]] = {number: [] for number in identities.pods}
    for workload in snapshot.workloads:
        number = identities.of_workload[str(workload)]
        there.setdefault(number, []).extend(workload.ports)  # with its node's network it is no pod
    for policy, section, rule in naming:
        subjects = identities.subjects(section.subject)
        is_egress = rule.direction == abi.Direction.EGRESS
        meant = meaning.peers_of(rule.peers, identities) if is_egress else subjects
        pods = identities.pods if meant is None else meant & identities.pods
        if not subjects or (not pods and any(isinstance(peer, model.Selector) for peer in rule.peers or ())):
            continue  # with nobody selected there is nobody to be wrong about
        have = [port for number in pods for port in there[number]]
        whose = "Workload among its peers" if is_egress else "selected Workload"
        effect = f"so it {'denies' if rule.verdict == abi.Verdict.DENY else 'allows'} nothing"
        for wanted in _missing(rule, have):
            message = f"no {whose} has a {wanted}, {effect} {names_of(have) if pods else '(a number)'}"
            yield remarks.of_policy(policy, rule.path, rule.source, message)


def _missing(rule: model.Rule, have: Iterable[model.ContainerPort]) -> Iterator[str]:
    """Yield each named port of a rule that is not there, in words; one protocol of those given for it is enough."""
    found = {(port.name, port.protocol) for port in have}
    protocols: dict[str, list[abi.Proto]] = {}
    for spec in rule.ports or ():
        if spec.name:
            protocols.setdefault(spec.name, []).append(spec.proto)
    for name, given in protocols.items():
        if not any((name, protocol) in found for protocol in given):
            kind = "" if len(given) == len(ports.TRANSPORTS) else " or ".join(p.name for p in given) + " "
            yield f"{kind}port named {field.quote(name)}"


def names_of(found: Iterable[model.ContainerPort]) -> str:
    """Return the names that there are, as the end of a message."""
    names = sorted({f"{port.name}/{port.protocol.name}" for port in found})
    if not names:
        return "(none of them names a port)"
    return field.one_of([*names[:MOST_NAMES], *(["..."] if len(names) > MOST_NAMES else [])])
