"""What only all files together can tell of a selector: whether it selects anybody."""

from collections.abc import Iterator

from control import identity, model
from control.policy import selections, words
from control.source import remarks
from loader import abi


def selected(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each selector that no workload fulfils, where workloads of its namespaces are declared.

    A misspelt label closes, or opens, nothing; but files may well be without the workloads of other namespaces.
    """
    found = selections.Selections()
    pods = [(w, labels) for w, labels in identity.labelled(snapshot) if not w.host_network]
    for number, labels in enumerate(dict.fromkeys(labels for _, labels in pods), 1):
        found.add(number, labels)
    declared = {w.namespace for w, _ in pods}

    def is_nobody(selector: model.Selector) -> bool:
        asked = _namespaces(selector)
        return bool(declared if asked is None else declared & asked) and not found.select(selector)

    for policy in snapshot.policies:
        told: dict[tuple[str, str], None] = {}
        for section in policy.sections:
            if not section.of_nodes and is_nobody(section.subject):
                told.setdefault((f"{section.path}\n{section.source}", _nobody(section.subject, "is under this policy")))
                continue
            for rule in section.rules:
                done = "denied" if rule.verdict == abi.Verdict.DENY else "allowed"
                for peer in rule.peers or ():
                    if isinstance(peer, model.Selector) and is_nobody(peer):
                        told.setdefault((f"{rule.path}\n{rule.source}", _nobody(peer, f"is {done} anything by it")))
        for where, message in told:
            path, _, source = where.partition("\n")
            yield remarks.of_policy(policy, path, source, message)


def _nobody(selector: model.Selector, what: str) -> str:
    return f"no workload of these files has {words.peer_word(selector)}, so none {what}"


def _namespaces(selector: model.Selector) -> frozenset[str] | None:
    for asked in selector.requirements:
        if asked.key == model.NAMESPACE_KEY and asked.operator is model.Operator.IN:
            return frozenset(asked.values)
    return None
