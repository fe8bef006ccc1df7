"""What rules say of bytes to no effect: where other rules for the same pods, or the spec itself, decide whatever it is.

The same pods: those that are selected in the same words, by whichever policy.
"""

from collections.abc import Iterator, Mapping, Sequence

from control import model
from control.policy import kinds, looking, words
from control.source import remarks

_DENIED = "the same peers and ports"
_LET_THROUGH = "the same peers and ports through whatever is sent (ask for it there, too, or remove that)"
_REFUSES_NOTHING = (
    "the same peers and ports through whatever is sent, for that spec refuses nothing (leave enableDefaultDeny on)"
)
_WORDS = {
    looking.Why.DENIED: ("denies", "deny", _DENIED),
    looking.Why.LET_THROUGH: ("lets", "let", _LET_THROUGH),
    looking.Why.REFUSES_NOTHING: ("lets", "let", _REFUSES_NOTHING),
}


def without_effect(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that is to look at bytes and sees none, naming its ports where it sees some at
    others. One that has others see none, either, is not without effect.
    """
    looks = looking.looks(snapshot, frees=True)
    policies = {policy.key: policy for policy in snapshot.policies}
    for policy in snapshot.policies:
        for section in policy.sections:
            for item in remarks.items(section):
                for kind, at in _by_kind(item, looks).items():
                    void: dict[str, list[model.PortSpec]] = {}
                    for look in at.values():
                        if look.by and not look.frees:
                            why = _why(look, policy, policies) if _refuses(section, item[0]) else _itself(item[0])
                            void.setdefault(why, []).append(look.spec)
                    for why, specs in void.items():
                        where = f" on {words.ports(specs)}" if len(specs) < len(at) else ""
                        message = f"{kind} has no effect{where}: {why}"
                        yield remarks.of_policy(policy, item[0].path, item[0].source, message)


def _by_kind(
    item: Sequence[model.Rule], looks: Mapping[int, Sequence[looking.Look]]
) -> dict[str, dict[model.PortSpec, looking.Look]]:
    """Return the ports of an item by the kind of its rules; of two looks at a port, one that sees something."""
    out: dict[str, dict[model.PortSpec, looking.Look]] = {}
    for rule in item:
        for look in looks.get(id(rule), ()):
            at = out.setdefault(kinds.kind(rule.l7) or "rules", {})
            if look.spec not in at or not look.by:
                at[look.spec] = look
    return out


def _refuses(section: model.Section, rule: model.Rule) -> bool:
    return rule.direction in section.default_deny


def _itself(rule: model.Rule) -> str:
    return f"this spec refuses nothing at {rule.direction.name.lower()} (leave enableDefaultDeny on)"


def _why(look: looking.Look, policy: model.Policy, policies: Mapping[str, model.Policy]) -> str:
    called = []
    for key in look.by:
        of, _, path = key.rpartition("#")
        called.append(path if of == policy.key else f"{remarks.shown(policies[of])} {path}")
    one, several, what = _WORDS[look.why]
    return f"{' and '.join(sorted(called))} {one if len(called) == 1 else several} {what}"
