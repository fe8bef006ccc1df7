"""What rules say of bytes to no effect: where another rule of the same spec, or the spec itself, lets all through."""

from collections.abc import Iterator

from control import model
from control.policy import resolve
from control.source import remarks, unserved


def without_effect(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that is to look at bytes and sees none."""
    for policy in snapshot.policies:
        told: set[tuple[str, str]] = set()  # a rule whose ports differ in L7 is several
        for section in (section for section in policy.sections if not section.of_nodes):
            for rule, freeing in resolve.void(policy, section):
                what = unserved.kind(rule.l7) or "rules"
                if (rule.path, what) in told:
                    continue
                told.add((rule.path, what))
                by = " and ".join(sorted(key.partition("#")[2] for key in freeing))
                yield remarks.of_policy(policy, rule.path, rule.source, f"{what} has no effect: {_why(by, rule)}")


def _why(by: str, rule: model.Rule) -> str:
    if not by:
        return f"this spec refuses nothing at {rule.direction.name.lower()} (leave enableDefaultDeny on)"
    return f"{by} lets the same peers and ports through whatever is sent (ask for it there, too, or remove that)"
