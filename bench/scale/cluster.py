"""A cluster as large as asked for, always the same: namespaces with teams, apps with replicas, policies as usual.

Each namespace has a default deny, an allow between its apps, one for a team's other namespaces, egress to DNS and to a
range outside, in this order; the apps of a namespace do not become more with its pods, but for those of stateful sets,
whose pods have each a label of their own.
"""

from control import model
from control.policy import peers, selectors
from loader import abi

APPS = 10
INGRESS, EGRESS = abi.Direction.INGRESS, abi.Direction.EGRESS
ALLOW = abi.Verdict.ALLOW
TCP, UDP = abi.Proto.TCP, abi.Proto.UDP


def snapshot(pods: int, namespaces: int = 200, policies: int = 1000, stateful: float = 0.1) -> model.Snapshot:
    """Return a cluster; `stateful` is the share of pods with labels that no other pod has."""
    each = pods // namespaces
    places = [(namespace, number) for namespace in range(namespaces) for number in range(each)]
    return model.Snapshot(
        workloads=tuple(pod(namespace, number, number < each * stateful) for namespace, number in places),
        namespaces=tuple(model.Namespace(f"ns-{n}", {"team": f"team-{n % 20}"}) for n in range(namespaces)),
        policies=tuple(policy(number % namespaces, number // namespaces) for number in range(policies)),
    )


def pod(namespace: int, number: int, alone: bool = False, **more: str) -> model.Workload:
    """Return a pod of one of the namespace's apps."""
    labels = {"app": f"app-{number % APPS}", **more}
    if alone:
        labels["statefulset.kubernetes.io/pod-name"] = f"pod-{number}"
    return model.Workload(f"ns-{namespace}", f"pod-{number}", labels, "default")


def app(number: int) -> model.Selector:
    return model.Selector((model.Requirement("k8s", "app", model.Operator.IN, (f"app-{number % APPS}",)),))


def team(number: int) -> model.Selector:
    key = model.NAMESPACE_LABEL_PREFIX + "team"
    return model.Selector((model.Requirement("k8s", key, model.Operator.IN, (f"team-{number % 20}",)),))


def policy(namespace: int, kind: int) -> model.Policy:
    """Return one of a namespace's policies; from the sixth on they allow between more and more apps."""
    where = f"ns-{namespace}"
    subject, closes, rules = _spec(namespace, kind, where)
    directions = frozenset(rule.direction for rule in rules) | closes
    section = model.Section("spec", selectors.scope_subject(subject, where), directions, closes, rules)
    return model.Policy("CiliumNetworkPolicy", where, f"policy-{kind}", (section,))


def _spec(
    namespace: int, kind: int, where: str
) -> tuple[model.Selector, frozenset[abi.Direction], tuple[model.Rule, ...]]:
    own, both = selectors.in_namespace(where), frozenset((INGRESS, EGRESS))
    web = (model.PortSpec(TCP, 80, 80), model.PortSpec(TCP, 8080, 8090))
    dns = (model.PortSpec(UDP, 53, 53), model.PortSpec(TCP, 53, 53))
    match kind:
        case 0:
            return model.Selector(), both, ()
        case 2:
            who = team(namespace).with_requirements(selectors.IS_ENDPOINT)
            return app(0), frozenset((INGRESS,)), (_rule(INGRESS, (who,), web),)
        case 3:
            system = model.Selector((selectors.in_namespace("ns-0"),))
            return model.Selector(), frozenset((EGRESS,)), (_rule(EGRESS, (system,), dns),)
        case 4:
            outside = model.CidrPeer(peers.parse_prefix("0.0.0.0/0"), (peers.parse_prefix(f"10.{namespace}.0.0/16"),))
            return app(1), frozenset((EGRESS,)), (_rule(EGRESS, (outside,), (model.PortSpec(TCP, 443, 443),)),)
        case _:
            caller, callee = app(kind).with_requirements(own), app(kind + 1).with_requirements(own)
            return (
                model.Selector(), both, (_rule(INGRESS, (caller, callee), web), _rule(EGRESS, (callee, caller), web)),
            )  # fmt: skip


def _rule(direction: abi.Direction, who: tuple[model.Peer, ...], ports: tuple[model.PortSpec, ...]) -> model.Rule:
    return model.Rule(direction, ALLOW, who, ports, f"spec.{direction.name.lower()}[0]")
