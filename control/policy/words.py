"""Rules in the words in which people write them: whom, which ports, which requests. Pure."""

from collections.abc import Iterable, Sequence

from control import model
from control.policy import dnsnames, peers

_MOST = 4


def policy_word(policy: model.Policy) -> str:
    """Return what a policy is called: its kind, then NAMESPACE/NAME, or the name alone where it is cluster-wide."""
    return f"{policy.kind} {policy.namespace}/{policy.name}" if policy.namespace else f"{policy.kind} {policy.name}"


def whom(of: Iterable[model.Peer] | None) -> str:
    """Return whom the peers of a rule name together, a few of them; None: anybody."""
    return _few([brief(peer) for peer in of], "; ") or "nobody" if of is not None else "anybody"


def ports(of: Iterable[model.PortSpec] | None) -> str:
    """Return the ports of a rule, a few of them; None: any."""
    return _few(list(map(port_word, of)), ", ") if of is not None else "any"


def _few(each: Sequence[str], between: str, most: int | None = _MOST) -> str:
    """Return the first of some words, and how many more there are."""
    more = len(each) - most if most is not None else 0
    return between.join([*each[:most], *([f"{more} more"] if more > 0 else [])])


def brief(peer: model.Peer) -> str:
    """Return whom a peer names, for a message: of its conditions, values and exceptions a few."""
    return peer_word(peer, _MOST)


def peer_word(peer: model.Peer, most: int | None = None) -> str:
    """Return whom a peer names, as short as people write it; of each list in it as many as `most`."""
    match peer:
        case model.Selector():
            asked = [_requirement(each, most) for each in peer.requirements if not _is_scope(each)]
            return _few(asked, " ", most) or "all pods"
        case model.CidrPeer():
            excepts = _few(list(map(peers.show_prefix, peer.excepts)), ", ", most)
            return peers.show_prefix(peer.prefix) + (f" except {excepts}" if excepts else "")
        case model.Entity():
            return f"entity {peer.value}"
        case model.NamePeer():
            return f"name {dnsnames.show(peer)}"
        case model.NodePeer():
            return f"nodes {_few([_requirement(r, most) for r in peer.selector.requirements], ' ', most)}".rstrip()
        case model.CidrGroupPeer():
            return f"CiliumCIDRGroup {peer.name or peer_word(peer.selector or model.Selector(), most)}"
        case model.ServicePeer():
            where = f"{peer.namespace or '*'}/"
            return f"Service {where}{peer.name or peer_word(peer.selector or model.Selector(), most)}"


def _is_scope(wanted: model.Requirement) -> bool:
    """Tell whether a condition only says that pods are meant, and no node or address: that they have a namespace."""
    return (wanted.key, wanted.operator) == (model.NAMESPACE_KEY, model.Operator.EXISTS)


def _requirement(wanted: model.Requirement, most: int | None) -> str:
    key = wanted.key.removeprefix(model.NAMESPACE_LABEL_PREFIX)
    if wanted.key == model.NAMESPACE_KEY:
        key = "namespace"
    elif key != wanted.key:
        key = f"namespace label {key}"
    source = "" if wanted.source in ("any", "k8s") else f"{wanted.source}:"
    match wanted.operator:
        case model.Operator.IN if len(wanted.values) == 1:
            return f"{source}{key}={wanted.values[0]}"
        case model.Operator.EXISTS:
            return f"{source}{key}"
        case model.Operator.DOES_NOT_EXIST:
            return f"!{source}{key}"
        case _:
            word = "in" if wanted.operator == model.Operator.IN else "not in"
            return f"{source}{key} {word} ({_few(wanted.values, ', ', most)})"


def port_word(spec: model.PortSpec) -> str:
    """Return ports as people write them: "80/TCP", "8000-8010/UDP", "http/TCP", "all/SCTP"."""
    if spec.name:
        return f"{spec.name}/{spec.proto.name}"
    if (spec.first, spec.last) == (0, 65535):
        return f"all/{spec.proto.name}"
    span = str(spec.first) if spec.first == spec.last else f"{spec.first}-{spec.last}"
    return f"{span}/{spec.proto.name}"


def l7_word(rules: model.L7Rules | None) -> str:
    """Return what bytes must say, in a few words."""
    if rules is None:
        return ""
    if rules.http is not None:
        return "; ".join(map(_http_word, rules.http)) or "no request"
    if rules.dns is not None:
        return "DNS: " + (", ".join(map(dnsnames.show, rules.dns)) or "no name")
    return "TLS server: " + (", ".join(rules.server_names or ()) or "none")


def _http_word(rule: model.HttpRule) -> str:
    parts = [rule.method, rule.host, rule.path, *map(header_word, rule.headers)]
    return "HTTP " + (" ".join(filter(None, parts)) or "anything")


def header_word(wanted: model.HeaderMatch) -> str:
    """Return what a header must be, and what else becomes of the request: "X-Key: secret shop/key (else ADD)".

    Of a secret its name alone: words are for logs and screens.
    """
    value = f"secret {wanted.secret}" if wanted.secret else "*" if wanted.value is None else wanted.value
    action = f" (else {wanted.mismatch.value})" if wanted.mismatch is not model.Mismatch.FAIL else ""
    return f"{wanted.name}: {value}{action}"
