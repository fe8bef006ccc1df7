"""What only all files together can tell of a port name in a policy: whether any pod that is meant has it."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

from control import model
from control.policy import field, ports, refer
from control.source import pods, remarks
from loader import abi

MOST_NAMES = 10  # in a message

Peers = tuple[model.Peer, ...] | None


def unnamed_ports(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each port name of a rule that none of the pods has whose port it would be."""
    if not any(_naming(section) for policy in snapshot.policies for section in policy.sections):
        return
    snapshot = refer.written_out(snapshot)
    known = pods.Pods(snapshot)
    meant_by = _each_once(known)
    having = functools.cache(lambda those: names_of(port for port, who in known.ports.items() if who & those))
    sections = ((each, section, _naming(section)) for each in snapshot.policies for section in each.sections)
    for policy, section, naming in sections:
        subjects = known.select(section.subject) if naming else 0
        for item in naming if subjects else ():
            rule = item[0]
            is_egress = rule.direction == abi.Direction.EGRESS
            meant = meant_by(rule.peers) if is_egress else subjects
            if not meant and any(isinstance(peer, model.Selector) for peer in rule.peers or ()):
                continue  # with nobody selected there is nobody to be wrong about
            whose = "Workload among its peers" if is_egress else "selected Workload"
            specs = dict.fromkeys(spec for each in item for spec in each.ports or ())
            missing = list(_missing(specs, meant, known.ports))
            if len(missing) < len({spec.name or spec for spec in specs}):
                effect = "so that name matches nothing, unlike the rule's other ports"
            else:
                effect = f"so it {'denies' if rule.verdict == abi.Verdict.DENY else 'allows'} nothing"
            for wanted in missing:
                message = f"no {whose} has a {wanted}, {effect} {having(meant) if meant else '(a number)'}"
                yield remarks.of_policy(policy, rule.path, rule.source, message)


def _naming(section: model.Section) -> list[list[model.Rule]]:
    return [item for item in remarks.items(section) if any(spec.name for rule in item for spec in rule.ports or ())]


def _each_once(known: pods.Pods) -> Callable[[Peers], int]:
    """Return who tells whom peers mean. A rule whose ports differ in L7 is several, of the same peers."""
    told: dict[int, int] = {}  # by the object, which the snapshot keeps

    def meant_by(peers: Peers) -> int:
        if id(peers) not in told:
            told[id(peers)] = known.meant(peers)
        return told[id(peers)]

    return meant_by


def _missing(specs: Iterable[model.PortSpec], meant: int, there: Mapping[pods.Port, int]) -> Iterator[str]:
    """Yield each named port that is not there, in words; one protocol of those given for it is enough."""
    protocols: dict[str, list[abi.Proto]] = {}
    for spec in specs:
        if spec.name:
            protocols.setdefault(spec.name, []).append(spec.proto)
    for name, given in protocols.items():
        if not any(there.get((name, protocol), 0) & meant for protocol in given):
            kind = "" if len(given) == len(ports.TRANSPORTS) else " or ".join(p.name for p in given) + " "
            yield f"{kind}port named {field.quote(name)}"


def names_of(found: Iterable[pods.Port]) -> str:
    """Return the names that there are, as the end of a message."""
    names = sorted({f"{name}/{protocol.name}" for name, protocol in found})
    if not names:
        return "(none of them names a port)"
    return field.one_of([*names[:MOST_NAMES], *(["..."] if len(names) > MOST_NAMES else [])])
