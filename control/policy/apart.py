"""What can never be the same: selectors that nobody fulfils both, peers that nobody is both, ports that have none in
common. Where that is not plain to see, they may be. Pure.
"""

from control import model

_Label = tuple[str, str]  # source and key


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
    pods = is_of_pods(one) or is_of_pods(other)
    return any(
        values.isdisjoint(also)
        for label, lists in one.named.items()
        for same in (_same(label) if pods else (label,))
        for also in other.named.get(same, ())
        for values in lists
    )


def is_of_pods(selector: model.Selector) -> bool:
    """Tell whether a selector asks for a namespace, which nobody but pods has."""
    asks = model.Operator.IN, model.Operator.EXISTS
    return any(r.key == model.NAMESPACE_KEY and r.source == "k8s" and r.operator in asks for r in selector.requirements)


def of_pod(label: _Label) -> _Label:
    """Return a label as a pod has it."""
    source, key = label
    return "k8s" if source == "any" else source, key


def _same(label: _Label) -> tuple[_Label, ...]:
    """Return all that may be the same label of a pod."""
    source, key = label
    return (("any", key), ("k8s", key)) if source in ("any", "k8s") else (label,)
