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
    found, on_host = pods.Pods(snapshot), pods.Pods(snapshot, on_host=True)

    def why_nobody(selector: model.Selector) -> str:
        if found.select(selector):
            return ""
        if on_host.select(selector):
            brief = words.brief(selector)
            return f"each workload of these files that has {brief} has its node's network (hostNetwork) and is the node"
        asked = _namespaces(selector)
        is_known = bool(found.namespaces if asked is None else found.namespaces & asked)
        return f"no workload of these files has {words.brief(selector)}" if is_known else ""

    for policy in snapshot.policies:
        told: dict[tuple[str, str], None] = {}
        seen: set[str] = set()  # a rule whose ports differ in L7 is several
        for section in policy.sections:
            if not section.of_nodes and (why := why_nobody(section.subject)):
                told.setdefault((f"{section.path}\n{section.source}", f"{why}, so none is under this policy"))
                continue
            for rule in section.rules:
                if rule.path in seen:
                    continue
                seen.add(rule.path)
                done = "denied" if rule.verdict == abi.Verdict.DENY else "allowed"
                for peer in rule.peers or ():
                    if not isinstance(peer, model.Selector) or selectors.reserved(peer):
                        continue
                    if why := why_nobody(peer):
                        told.setdefault((f"{rule.path}\n{rule.source}", f"{why}, so none is {done} anything by it"))
        for where, message in told:
            path, _, source = where.partition("\n")
            yield remarks.of_policy(policy, path, source, message)


def _namespaces(selector: model.Selector) -> frozenset[str] | None:
    for asked in selector.requirements:
        if asked.key == model.NAMESPACE_KEY and asked.operator is model.Operator.IN:
            return frozenset(asked.values)
    return None
