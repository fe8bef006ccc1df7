"""What only all files together can tell of a selector: whether it selects anybody."""

from collections.abc import Iterator

from control import model
from control.policy import selectors, words
from control.source import pods, remarks
from loader import abi


def selected(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each selector that no workload fulfils, where workloads of its namespaces are declared.

    A misspelt label closes, or opens, nothing; but files may well be without the workloads of other namespaces.
    """
    found = pods.Pods(snapshot)

    def is_nobody(selector: model.Selector) -> bool:
        asked = _namespaces(selector)
        return bool(found.namespaces if asked is None else found.namespaces & asked) and not found.select(selector)

    for policy in snapshot.policies:
        told: dict[tuple[str, str], None] = {}
        seen: set[str] = set()  # a rule whose ports differ in L7 is several
        for section in policy.sections:
            if not section.of_nodes and is_nobody(section.subject):
                told.setdefault((f"{section.path}\n{section.source}", _nobody(section.subject, "is under this policy")))
                continue
            for rule in section.rules:
                if rule.path in seen:
                    continue
                seen.add(rule.path)
                done = "denied" if rule.verdict == abi.Verdict.DENY else "allowed"
                for peer in rule.peers or ():
                    if isinstance(peer, model.Selector) and not selectors.reserved(peer) and is_nobody(peer):
                        told.setdefault((f"{rule.path}\n{rule.source}", _nobody(peer, f"is {done} anything by it")))
        for where, message in told:
            path, _, source = where.partition("\n")
            yield remarks.of_policy(policy, path, source, message)


def _nobody(selector: model.Selector, what: str) -> str:
    return f"no workload of these files has {words.brief(selector)}, so none {what}"


def _namespaces(selector: model.Selector) -> frozenset[str] | None:
    for asked in selector.requirements:
        if asked.key == model.NAMESPACE_KEY and asked.operator is model.Operator.IN:
            return frozenset(asked.values)
    return None
