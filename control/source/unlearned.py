"""Rules for DNS names of pods whose queries the proxy does not see: it learns names from these alone."""

import functools
from collections.abc import Iterator

from control import model
from control.policy import resolve
from control.source import pods, remarks
from loader import abi

UNSEEN = "no rule for DNS queries (rules.dns at port 53, egress) is for"
NOT_LEARNED = "so the proxy sees none and learns no address of a name from them"


def names(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that means DNS names and selects pods that no rule for DNS queries is for."""
    naming = list(_naming(snapshot))
    if not naming:
        return
    known = pods.Pods(snapshot)
    asked = [section.subject for policy in snapshot.policies for section in policy.sections if _asks(policy, section)]
    seen = functools.reduce(int.__or__, map(known.select, asked), 0)
    for policy, section, rule in naming:
        meant = known.select(section.subject)
        # Where no pod is declared, a selector that asks for no more selects them all.
        wanted = set(section.subject.requirements)
        is_seen = not meant & ~seen if meant else any(set(each.requirements) <= wanted for each in asked)
        if not is_seen:
            whom = "some of these pods" if meant & seen else "these pods"
            yield remarks.of_policy(policy, rule.path, rule.source, f"{UNSEEN} {whom}, {NOT_LEARNED}")


def _naming(snapshot: model.Snapshot) -> Iterator[tuple[model.Policy, model.Section, model.Rule]]:
    for policy in snapshot.policies:
        told: set[str] = set()  # a rule whose ports differ in L7 is several
        for section in (section for section in policy.sections if not section.of_nodes):
            for rule in section.rules:
                if rule.path not in told and any(isinstance(peer, model.NamePeer) for peer in rule.peers or ()):
                    told.add(rule.path)
                    yield policy, section, rule


def _asks(policy: model.Policy, section: model.Section) -> bool:
    """Tell whether a spec has the proxy see DNS queries of the pods that it selects."""
    asking = [rule for rule in section.rules if rule.l7 and rule.l7.dns and rule.direction == abi.Direction.EGRESS]
    if not asking or section.audit or section.of_nodes:
        return False
    void = {id(rule) for rule, _ in resolve.void(policy, section)}
    return any(id(rule) not in void for rule in asking)
