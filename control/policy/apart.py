"""What can never be the same: selectors that nobody fulfils both, peers that nobody is both, ports that have none in
common. Where that is not plain to see, they may be. Pure.
"""

from control import model


def ports(one: model.PortSpec, other: model.PortSpec) -> bool:
    """Tell whether no port is meant by both; a name may stand for any."""
    if one.proto != other.proto:
        return True
    return not (one.name or other.name) and (one.last < other.first or other.last < one.first)


def peers(one: model.Peer | None, other: model.Peer | None) -> bool:
    """Tell whether nobody is meant by both; None is anybody."""
    match one, other:
        case model.Selector(), model.Selector():
            return selectors(one, other)
        case model.CidrPeer(), model.CidrPeer():
            return not (one.prefix.contains(other.prefix) or other.prefix.contains(one.prefix))
        case (model.Selector() as pods, model.CidrPeer() | model.NamePeer()):
            return _are_pods(pods)
        case (model.CidrPeer() | model.NamePeer(), model.Selector() as pods):
            return _are_pods(pods)
    return False


def _are_pods(selector: model.Selector) -> bool:
    return bool(selector.requirements) and all(r.source in ("any", "k8s") for r in selector.requirements)


def selectors(one: model.Selector, other: model.Selector) -> bool:
    """Tell whether two selectors name different values of one label, so that nobody has both."""
    # All labels of a pod are of the source k8s: there a key of any source asks for the same label.
    of_pod = any(_is_of_pod(requirement) for requirement in (*one.requirements, *other.requirements))
    named: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for asked in one.requirements:
        if asked.operator is model.Operator.IN:
            named.setdefault(_label(asked, of_pod), []).append(asked.values)
    return any(
        set(also.values).isdisjoint(values)
        for also in other.requirements
        if also.operator is model.Operator.IN
        for values in named.get(_label(also, of_pod), ())
    )


def _is_of_pod(requirement: model.Requirement) -> bool:
    asks = requirement.operator in (model.Operator.IN, model.Operator.EXISTS)
    return asks and (requirement.source, requirement.key) == ("k8s", model.NAMESPACE_KEY)


def _label(requirement: model.Requirement, of_pod: bool) -> tuple[str, str]:
    return "k8s" if of_pod and requirement.source == "any" else requirement.source, requirement.key
