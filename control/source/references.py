"""What only all files together can tell of a rule's peers: whether there is what it refers to."""

import functools
from collections.abc import Callable, Iterator

from control import model
from control.policy import refer
from control.source import remarks
from loader import abi

Reference = model.CidrGroupPeer | model.ServicePeer


def to_nothing(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each reference of a rule to a CIDR group or a service that there is not."""
    is_there = _finder(refer.Referents.of(snapshot))
    for policy in snapshot.policies:
        told: dict[tuple[str, str], None] = {}  # a rule whose ports differ in L7 is several
        for section in policy.sections:
            for rule in section.rules:
                for peer in rule.peers or ():
                    if isinstance(peer, Reference) and not is_there(peer):
                        only = len(rule.peers or ()) == 1
                        done = "denies" if rule.verdict == abi.Verdict.DENY else "allows"
                        effect = f"so this rule {done} nothing" + ("" if only else " there")
                        told.setdefault((f"{rule.path}\n{rule.source}", f"no {_called(peer)}, {effect}"))
        for where, message in told:
            path, _, source = where.partition("\n")
            yield remarks.of_policy(policy, path, source, message)


def _finder(known: refer.Referents) -> Callable[[Reference], bool]:
    """Return who tells whether there is anything that a peer refers to; a large file asks thousands of times."""
    groups = {group.name for group in known.groups}
    services = {where for s in known.services for where in ((s.namespace, s.name), ("", s.name))}

    @functools.cache
    def is_there(peer: Reference) -> bool:
        if peer.selector is not None:
            return refer.is_there(peer, known)
        return peer.name in groups if isinstance(peer, model.CidrGroupPeer) else (peer.namespace, peer.name) in services

    return is_there


def _called(peer: Reference) -> str:
    if isinstance(peer, model.CidrGroupPeer):
        kind, among = "CiliumCIDRGroup", ""
    else:
        kind, among = "Service", f" in namespace {peer.namespace}" if peer.namespace else ""
    return f"{kind}{among} " + (
        "has the labels that are asked for" if peer.selector is not None else f"is called {peer.name}"
    )


def unknown_namespaces(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for the first rule that asks for labels of namespaces, where there are pods and no Namespace."""
    if snapshot.namespaces or not snapshot.workloads:
        return
    for policy in snapshot.policies:
        for section in policy.sections:
            places = ((section.path, section.source, section.subject),)
            peers = ((rule.path, rule.source, peer) for rule in section.rules for peer in rule.peers or ())
            for path, source, selector in (*places, *peers):
                asked = selector.requirements if isinstance(selector, model.Selector) else ()
                keys = [r.key.removeprefix(model.NAMESPACE_LABEL_PREFIX) for r in asked if _is_of_namespace(r.key)]
                if keys:
                    message = (
                        f"asks for the label {keys[0]} of namespaces, whose labels are unknown and count as absent: no "
                        "Namespace is given (kubectl get ns -o yaml prints them)"
                    )
                    yield remarks.of_policy(policy, path, source, message)
                    return


def _is_of_namespace(key: str) -> bool:
    """Tell whether a label is one of a namespace's that its name does not tell."""
    return key.startswith(model.NAMESPACE_LABEL_PREFIX) and not key.endswith(model.NAMESPACE_NAME_LABEL)
