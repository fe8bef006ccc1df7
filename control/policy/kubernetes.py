"""networking.k8s.io/v1 NetworkPolicy to the same `Section` as every other policy.

It differs from the Cilium language where it hurts most: here the empty rule `- {}` allows everything, an empty `from`
means everybody, and selecting a pod is enough to isolate it.
"""

from control import model
from control.policy import field, peers, ports, selectors
from control.policy.context import IN_OUR_KINDS
from loader import abi

TYPES = {"Ingress": abi.Direction.INGRESS, "Egress": abi.Direction.EGRESS}


def read_section(spec: field.Field, namespace: str) -> model.Section:
    """Read the spec of a NetworkPolicy; report collects what is wrong."""
    entries = spec.fields(("podSelector", "ingress", "egress", "policyTypes"), elsewhere=IN_OUR_KINDS)
    subject = model.Selector()
    if "podSelector" in entries:
        subject = selectors.read_selector(entries["podSelector"], selectors.plain_key)
    elif isinstance(spec.node.value, dict):
        spec.problem("podSelector is missing ({} selects every pod of the namespace)")
    rules: list[model.Rule] = []
    for key, direction in (("ingress", abi.Direction.INGRESS), ("egress", abi.Direction.EGRESS)):
        for item in entries[key].each() if key in entries else ():
            rules.append(_read_rule(item, direction, namespace))
    directions = _directions(entries, rules)
    _tell_of_unused(entries, directions)
    return model.Section(
        path=spec.path,
        # The namespace cannot be written in this language, so the scope only adds.
        subject=subject.with_requirements(selectors.in_namespace(namespace)),
        directions=directions,
        default_deny=directions,
        rules=tuple(rule for rule in rules if rule.direction in directions),
        source=spec.source,
    )


def _directions(entries: dict[str, field.Field], rules: list[model.Rule]) -> frozenset[abi.Direction]:
    # No more than there are, for the API server takes no more; one that is given twice it does take.
    chosen = entries["policyTypes"].items(most=len(TYPES)) if "policyTypes" in entries else []
    if chosen:
        return frozenset(d for d in (item.choice(TYPES) for item in chosen) if d is not None)
    has_egress = any(rule.direction == abi.Direction.EGRESS for rule in rules)
    return frozenset(abi.Direction) if has_egress else frozenset((abi.Direction.INGRESS,))


def _tell_of_unused(entries: dict[str, field.Field], directions: frozenset[abi.Direction]) -> None:
    """Advise where rules are written for a direction in which the policy takes no part."""
    for name, direction in TYPES.items():
        place = entries.get(name.lower())
        if place is None or direction in directions:
            continue
        if "policyTypes" in entries and entries["policyTypes"].node.value != ():
            if place.node.value != ():  # many write an empty list for what is not there
                place.advise(f"does nothing: policyTypes does not name {name}")
        else:  # only of egress, and there an empty list looks like the way to close it
            place.advise(f"is empty and closes nothing: policyTypes is not given (it must name {name} for that)")


def _read_rule(item: field.Field, direction: abi.Direction, namespace: str) -> model.Rule:
    way = "from" if direction == abi.Direction.INGRESS else "to"
    entries = item.fields((way, "ports"))
    who: list[model.Peer] = []
    for peer in entries[way].each() if way in entries else ():
        found = _read_peer(peer, namespace)
        if found is not None:
            who.append(found)
    given = way in entries and entries[way].node.value != ()
    with_ports = "ports" in entries and entries["ports"].node.value != ()
    return model.Rule(
        direction,
        abi.Verdict.ALLOW,
        tuple(who) if given else None,
        tuple(dict.fromkeys(s for port in entries["ports"].each() for s in _read_port(port))) if with_ports else None,
        item.path,
        item.source,
    )


def _read_peer(place: field.Field, namespace: str) -> model.Peer | None:
    entries = place.fields(("podSelector", "namespaceSelector", "ipBlock"))
    if not entries:
        place.problem("must have at least one of podSelector, namespaceSelector, ipBlock")
        return None
    if "ipBlock" in entries:
        if len(entries) > 1:
            place.problem("ipBlock cannot be combined with a selector")
        block = entries["ipBlock"].fields(("cidr", "except"), required=("cidr",))
        prefix = peers.read_prefix(block["cidr"]) if "cidr" in block else None
        excepts = peers.read_excepts(block["except"], prefix, smaller=True) if "except" in block else ()
        return model.CidrPeer(prefix, excepts) if prefix else None
    pods = model.Selector()
    if "podSelector" in entries:
        pods = selectors.read_selector(entries["podSelector"], selectors.plain_key)
    if "namespaceSelector" not in entries:
        return pods.with_requirements(selectors.in_namespace(namespace))
    names = selectors.read_selector(entries["namespaceSelector"], selectors.namespace_key)
    return pods.with_requirements(*names.requirements, selectors.IS_ENDPOINT)


def _read_port(place: field.Field) -> list[model.PortSpec]:
    parts = place.fields(("port", "endPort", "protocol"))
    proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
    if "port" not in parts:
        if "endPort" in parts:
            parts["endPort"].problem("needs a port")
        return [model.PortSpec(proto)] if proto is not None else []
    given = parts["port"].node.value
    if isinstance(given, str) and given.isascii() and given.isdigit():
        # The API server takes a string for a name, and a name has a letter.
        parts["port"].problem(f"invalid {field.quote(given)} (a number without quotes, or a name)")
        return []
    if isinstance(given, str) and given != given.lower():
        parts["port"].problem(f"invalid {field.quote(given)} ({ports.PORT_NAME_RULE}, in lower case)")
        return []
    port = ports.number_or_name(parts["port"])
    end = parts["endPort"].integer(1, 65535) if "endPort" in parts else None
    if port is None or proto is None:
        return []
    if port == 0:
        parts["port"].problem("invalid 0 (a number from 1 to 65535; leave port out for all ports)")
        return []
    if isinstance(port, str):
        if end is not None:
            parts["endPort"].problem("needs a port number, not a name")
        return [model.PortSpec(proto, name=port)]
    if end is not None and end < port:
        parts["endPort"].problem(f"{end} is below port {port}")
        return []
    return [model.PortSpec(proto, port, port if end is None else end)]
