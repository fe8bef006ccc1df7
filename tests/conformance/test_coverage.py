"""What the conformance cases show between them, and what they cannot."""

import collections

from tests.conformance import case

CASES = case.cases()

KUBERNETES = (
    "default-deny-ingress",
    "default-deny-all",
    "pods within server namespace by PodSelector",
    "ingress for a target",
    "from pods in all namespaces",
    "only from a different namespace (NamespaceSelector)",
    "PodSelector MatchExpressions",
    "NamespaceSelector MatchExpressions",
    "PodSelector or NamespaceSelector",
    "PodSelector and NamespaceSelector",
    "Multiple PodSelectors and NamespaceSelectors",
    "any PodSelectors",
    "pod in different namespace by both selectors",
    "Ports",
    "multiple stacked overlapping",
    "allow-all",
    "one named port ingress",
    "from namespace on named port",
    "one named port egress",
    "updated policy",
    "updated namespace",
    "updated pod",
    "deny from other namespaces",
    "deny to updated pod",
    "deny egress by PodSelector",
    "deny egress all pods",
    "Ingress+Egress together",
    "deny egress on client side even if server allows",
    "egress to server in different namespace",
    "any port on a protocol",
    "multiple ingress, allow-all precedence",
    "multiple egress, allow-all precedence",
    "stop after delete",
    "egress to CIDR",
    "except clause",
    "overlap CIDR/except allowed",
    "ingress/egress independent",
    "SCTP not treated as TCP",
    "isolate when policy allows SCTP",
    "no TCP when only UDP",
    "NamespaceSelector default ns label MatchLabels",
    "NamespaceSelector default ns label MatchExpressions",
    *(f"{protocol} {name}" for protocol in ("UDP", "SCTP") for name in (
        "default-deny-ingress", "Ports", "pod in different namespace by both selectors",
    )),
)  # fmt: skip
UPDATES = ("updated policy", "updated namespace", "updated pod", "deny to updated pod", "stop after delete")

SEMANTICS = {
    1: "default deny on selection, in each direction; a rule that does not ask for it leaves the rest open",
    2: "rules with nothing but denies switch default deny on too",
    3: "the node itself reaches its pods",
    4: "both ends must allow",
    5: "any deny beats every allow",
    6: "absent, empty and all-selecting lists and selectors, and the empty rule",
    7: "peer selectors are scoped to the policy's namespace, and subject selectors always are",
    8: "sources of labels, operators, service accounts",
    9: "one kind of peers in a rule; ports with any; lists are unions",
    10: "address ranges never mean pods or nodes; the narrowest range; exceptions are of one item only",
    11: "ports: behind a service, 0, ANY, ranges, names",
    12: "ICMP is not any port",
    13: "what rules for the bytes do: the proxy, any one rule is enough, what may go together",
    14: "rules for the bytes beside plain ones",
    15: "of several entries: a deny, then the proxy, then longer ports, then the peer's own",
    16: "policies of all kinds are of one tier, in no order",
    17: "DNS names: what patterns match, learned addresses outside the cluster only",
    18: "entities",
    19: "nodes by their labels",
    20: "services: the pods that they select, else their endpoints, which are no pods",
    21: "host policies are for the node, not for pods",
    22: "a rule that asks for authentication is never wider for it",
    23: "audit mode passes what it would refuse, and says so",
    24: "existing connections when policy changes",
}
# Of these a verdict cannot tell.
NOT_SHOWN = {24: "a verdict is for a new connection; tests/kernel has what becomes of one that exists"}


def test_every_end_to_end_case_of_kubernetes_is_there() -> None:
    found = collections.Counter(one.kubernetes for one in CASES if one.kubernetes)
    assert len(KUBERNETES) == len(set(KUBERNETES)) == 48
    assert found.keys() == set(KUBERNETES)
    assert not [name for name in UPDATES if found[name] < 2], "before and after"


def test_every_numbered_point_is_shown() -> None:
    found = {point for one in CASES for point in one.semantics}
    assert found | NOT_SHOWN.keys() == set(SEMANTICS)
    assert not found & NOT_SHOWN.keys()


def test_what_the_kernel_is_not_asked_it_cannot_be_given() -> None:
    """A case is for the kernel, unless it has what the kernel's runner lacks; then it says what that is."""
    wrong = []
    for one in CASES:
        lacking = [name for name, has in case.KERNEL_LACKS.items() if has(one)]
        if one.kernel not in (lacking or [""]):
            wrong.append(f"{one}: {one.kernel!r} is none of {lacking}")
    assert not wrong


def test_most_cases_are_for_the_kernel() -> None:
    assert len([one for one in CASES if one.kernel]) < len(CASES) / 10
