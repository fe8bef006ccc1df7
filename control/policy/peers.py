"""The peers of a rule in the Cilium language: endpoints, address ranges, entities."""

import ipaddress
from collections.abc import Mapping

from control import model
from control.policy import field, selectors

KINDS = ("Endpoints", "CIDR", "CIDRSet", "Entities")  # behind "from" or "to"
LATER_FROM = ("fromNodes", "fromGroups")
LATER_TO = ("toNodes", "toGroups", "toServices", "toFQDNs")
# No address of a node is known by these names yet. To take one would make a deny of it that denies nothing.
LATER_ENTITIES = tuple(
    entity.value
    for entity in (
        model.Entity.REMOTE_NODE, model.Entity.KUBE_APISERVER, model.Entity.HEALTH, model.Entity.INIT,
        model.Entity.INGRESS,
    )
)  # fmt: skip
ENTITIES = {entity.value: entity for entity in model.Entity if entity.value not in LATER_ENTITIES}


def parse_prefix(text: str) -> model.Prefix:
    """Return the range that text names, host bits cleared; raises ValueError where it names none."""
    _, slash, length = text.partition("/")
    if "%" in text or (slash and not (length.isascii() and length.isdigit())):
        raise ValueError("neither scopes nor netmasks")  # "/0.0.0.255" would mean /24 to ipaddress
    network = ipaddress.ip_network(text, strict=False)
    return model.Prefix(network.version, int(network.network_address), network.prefixlen)


def show_prefix(prefix: model.Prefix) -> str:
    """Return the usual spelling of a range."""
    address = ipaddress.IPv4Address if prefix.version == 4 else ipaddress.IPv6Address
    return f"{address(prefix.address)}/{prefix.length}"


def read_prefix(place: field.Field) -> model.Prefix | None:
    """Read an address range; a bare address is the range of that one address."""
    text = place.text(most=64)
    if text is None:
        return None
    try:
        prefix = parse_prefix(text)
    except ValueError:
        place.problem(f"invalid {field.quote(text)} (an address range such as 10.0.0.0/8 or fd00::/8)")
        return None
    if prefix.version == 6 and prefix.length >= 96 and prefix.address >> 32 == 0xFFFF:
        place.problem(f"invalid {field.quote(text)} (write IPv4 ranges in dotted form)")
        return None
    return prefix


def read_excepts(place: field.Field, prefix: model.Prefix | None) -> tuple[model.Prefix, ...]:
    """Read the ranges that an address range leaves out; each must lie inside it."""
    out = []
    for item in place.items():
        inner = read_prefix(item)
        if inner is None or prefix is None:
            continue
        if not prefix.contains(inner):
            item.problem(f"{show_prefix(inner)} is not inside {show_prefix(prefix)}")
            continue
        out.append(inner)
    return tuple(out)


def read_peers(entries: Mapping[str, field.Field], way: str, namespace: str) -> tuple[model.Peer, ...] | None:
    """Return the peers of one rule: None where no kind of peer is given, nothing where one is given empty.

    `way` is "from" or "to". Only one kind may be used in a rule, so that nobody takes a union for an intersection.
    """
    given = [way + kind for kind in KINDS if way + kind in entries]
    if not given:
        return None
    used = [key for key in given if entries[key].node.value != ()]
    if len(used) > 1:
        entries[used[1]].problem(f"combining {used[0]} and {used[1]} is not supported yet (use two rules)")
    peers: list[model.Peer] = []
    for key in given:
        for item in entries[key].items():
            peer = _read_peer(item, key.removeprefix(way), namespace)
            if peer is not None:
                peers.append(peer)
    # One kind present but empty turns the whole rule into nothing.
    return tuple(peers) if len(used) == len(given) else ()


def _read_peer(item: field.Field, kind: str, namespace: str) -> model.Peer | None:
    if kind == "Endpoints":
        return selectors.scope_peer(selectors.read_selector(item, selectors.sourced_key), namespace)
    if kind == "Entities":
        if item.node.value in LATER_ENTITIES:
            item.problem(f"{item.node.value} is not supported yet: nobody is known by it {field.one_of(ENTITIES)}")
            return None
        return item.choice(ENTITIES)
    if kind == "CIDR":
        prefix = read_prefix(item)
        return model.CidrPeer(prefix) if prefix else None
    entries = item.fields(("cidr", "except"), later=("cidrGroupRef", "cidrGroupSelector"))
    if "cidr" not in entries:
        item.problem("cidr is missing")
        return None
    prefix = read_prefix(entries["cidr"])
    excepts = read_excepts(entries["except"], prefix) if "except" in entries else ()
    return model.CidrPeer(prefix, excepts) if prefix else None
