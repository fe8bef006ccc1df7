"""Rules for DNS names. Which addresses these open or close is learned by a mesh that runs, so no pair can tell."""

from collections.abc import Iterator

from control import model
from control.policy import dnsnames
from loader import abi

_Rule = tuple[model.Selector, str, tuple[model.PortSpec, ...] | None]  # whose, name, ports


def names(snapshot: model.Snapshot) -> tuple[str, ...]:
    """Return the names and patterns that enforced rules allow or deny, sorted."""
    return tuple(sorted({name for is_deny in (False, True) for _, name, _ in _rules(snapshot, is_deny)}))


def opened(old: model.Snapshot, new: model.Snapshot) -> tuple[str, ...]:
    """Return the names that a rule of new alone allows, or a rule of old alone denied. It may do so in vain, where
    another rule says the same in other words; a check should rather refuse too much.
    """
    allowed = {*_rules(new, False)} - {*_rules(old, False)}
    denied = {*_rules(old, True)} - {*_rules(new, True)}
    return tuple(sorted({name for _, name, _ in allowed | denied}))


def _rules(snapshot: model.Snapshot, is_deny: bool) -> Iterator[_Rule]:
    audited = {namespace.name for namespace in snapshot.namespaces if namespace.audit}
    for policy in snapshot.policies:
        for section in policy.sections if policy.namespace not in audited else ():
            for rule in section.rules if not section.audit else ():
                if (rule.verdict == abi.Verdict.DENY) == is_deny:
                    for peer in rule.peers or ():
                        if isinstance(peer, model.NamePeer):
                            yield section.subject, dnsnames.show(peer), rule.ports
