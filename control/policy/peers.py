"""The peers of a rule in the Cilium language: endpoints, address ranges, names, nodes, services, entities."""

import contextlib
import ipaddress
import re
from collections.abc import Mapping

from control import model
from control.policy import field, fqdn, objectnames, selectors
from control.policy.context import Context

KINDS = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Nodes", "Groups")  # behind "from" or "to"
TO_KINDS = (*KINDS, "Services", "FQDNs")
ENTITIES = {entity.value: entity for entity in model.Entity}
CIDR_KEYS = ("cidr", "cidrGroupRef", "cidrGroupSelector")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
AWS_KEYS = ("labels", "region", "securityGroupsIds", "securityGroupsNames")


def parse_prefix(text: str, strict: bool = False) -> model.Prefix:
    """Return the range that text names, host bits cleared; raises ValueError where it names none, and where it has such
    bits if that is to be `strict`.
    """
    _, slash, length = text.partition("/")
    # "/0.0.0.255" would mean /24 to ipaddress, and "/08" nothing or /8 to others, as "010" is 8 or 10 of an address.
    if "%" in text or (slash and not _LENGTH.fullmatch(length)):
        raise ValueError("neither scopes nor netmasks")
    # Not ip_network, which tries both families, and takes twice as long where neither will do.
    family = ipaddress.IPv6Network if ":" in text else ipaddress.IPv4Network
    network = family(text, strict)
    return model.Prefix(network.version, int(network.network_address), network.prefixlen)


def show_prefix(prefix: model.Prefix) -> str:
    """Return the usual spelling of a range."""
    address = ipaddress.IPv4Address if prefix.version == 4 else ipaddress.IPv6Address
    return f"{address(prefix.address)}/{prefix.length}"


def read_prefix(place: field.Field, bare: bool = False) -> model.Prefix | None:
    """Read an address range. `bare`: an address without a length will do, as the range of that one address."""
    text = place.text(most=64)
    if text is None:
        return None
    prefix, is_exact = _prefix(text)
    if prefix is None:
        place.problem(f"invalid {field.quote(text)} (an address range such as 10.0.0.0/8 or fd00::/8)")
        return None
    if "/" not in text and not bare:
        place.problem(f"invalid {field.quote(text)} (an address range, {show_prefix(prefix)} for this one address)")
        return None
    if prefix.version == 6 and prefix.length >= 96 and prefix.address >> 32 == 0xFFFF:
        place.problem(f"invalid {field.quote(text)} (write IPv4 ranges in dotted form)")
        return None
    if not is_exact:
        place.advise(f"{text} is taken as {show_prefix(prefix)}, the range around that address")
    elif "/" not in text:
        place.advise(f"{text} is taken as {show_prefix(prefix)} (later versions of Cilium take a range only)")
    return prefix


def _prefix(text: str) -> tuple[model.Prefix | None, bool]:
    """Return the range that text names, None for none, and whether it is written without host bits."""
    for strict in (True, False):
        with contextlib.suppress(ValueError):
            return parse_prefix(text, strict), strict
    return None, False


def read_excepts(place: field.Field, prefix: model.Prefix | None, smaller: bool = False) -> tuple[model.Prefix, ...]:
    """Read the ranges that an address range leaves out; each must lie inside it, where it is known, and be `smaller`
    than it where the language wants that.
    """
    out = []
    for item in place.each():
        inner = read_prefix(item)
        if inner is None:
            continue
        if prefix is not None and not prefix.contains(inner):
            item.problem(f"{show_prefix(inner)} is not inside {show_prefix(prefix)}")
            continue
        if smaller and inner == prefix:
            item.problem(f"{show_prefix(inner)} leaves nothing of {show_prefix(prefix)} (a smaller range inside it)")
            continue
        out.append(inner)
    return tuple(out)


def read_peers(entries: Mapping[str, field.Field], context: Context) -> tuple[model.Peer, ...] | None:
    """Return the peers of one rule: None where no kind of peer is given, nothing where one is given empty.

    Only one kind may be used in a rule, so that nobody takes a union for an intersection.
    """
    way = context.way
    given = [way + kind for kind in kinds(context) if way + kind in entries]
    if not given:
        return None
    used = [key for key in given if entries[key].node.value != ()]
    for key in given:
        if key not in used:
            done = "denies" if context.is_deny else "allows"
            entries[key].advise(f"is empty, which is nobody, so this rule {done} nothing")
    for key in used[1:]:
        entries[key].problem(f"combining {used[0]} and {key} is not supported yet (use two rules)")
    peers: list[model.Peer] = []
    for key in given:
        for item in entries[key].each():
            peer = _read_peer(item, key.removeprefix(way), context)
            if peer is not None:
                peers.append(peer)
    # One kind present but empty turns the whole rule into nothing.
    return tuple(peers) if len(used) == len(given) else ()


def kinds(context: Context) -> tuple[str, ...]:
    """Return the kinds of peers that there are in a rule's direction."""
    return KINDS if context.way == "from" else TO_KINDS


def _read_peer(item: field.Field, kind: str, context: Context) -> model.Peer | None:
    match kind:
        case "Endpoints":
            return _read_endpoints(item, context)
        case "Entities":
            return item.choice(ENTITIES)
        case "CIDR":
            prefix = read_prefix(item, bare=True)
            return model.CidrPeer(prefix) if prefix else None
        case "CIDRSet":
            return _read_cidr_rule(item)
        case "Nodes":
            return model.NodePeer(selectors.read_selector(item, selectors.sourced_key))
        case "Services":
            return _read_service(item)
        case "FQDNs":
            return fqdn.read_name_peer(item)
    _check_group(item, context)
    return None


def _read_endpoints(item: field.Field, context: Context) -> model.Selector:
    selector = selectors.read_selector(item, selectors.sourced_key)
    negative = (model.Operator.NOT_IN, model.Operator.DOES_NOT_EXIST)
    outside = [r for r in selector.requirements if r.source in selectors.OUTSIDE and r.operator not in negative]
    if outside and not any(r.source == "reserved" for r in selector.requirements):
        item.advise(f"selects nobody: endpoints have no labels of source {outside[0].source}")
    return selectors.scope_peer(selector, context.namespace)


def _read_cidr_rule(item: field.Field) -> model.Peer | None:
    entries = item.fields((*CIDR_KEYS, "except"))
    given = [key for key in CIDR_KEYS if key in entries]
    if len(given) != 1 and isinstance(item.node.value, dict):
        item.problem(f"must have one of {', '.join(CIDR_KEYS)}" + (f", has {', '.join(given)}" if given else ""))
    prefix = read_prefix(entries["cidr"]) if "cidr" in entries else None
    excepts = read_excepts(entries["except"], prefix) if "except" in entries else ()
    selector = None
    if "cidrGroupSelector" in entries:
        selector = selectors.read_selector(entries["cidrGroupSelector"], selectors.plain_key)
    name = None
    if "cidrGroupRef" in entries:
        name = entries["cidrGroupRef"].text(objectnames.DNS_NAME, objectnames.DNS_NAME_RULE)
    if prefix:
        return model.CidrPeer(prefix, excepts)
    return model.CidrGroupPeer(name or "", selector, excepts) if name or selector else None


def _read_service(item: field.Field) -> model.ServicePeer | None:
    entries = item.fields(("k8sService", "k8sServiceSelector"))
    if len(entries) != 1:
        if isinstance(item.node.value, dict):
            item.problem("must have one of k8sService, k8sServiceSelector")
        return None
    ((key, place),) = entries.items()
    what = "serviceName" if key == "k8sService" else "selector"
    parts = place.fields((what, "namespace"), required=(what,))
    namespace: str | None = ""  # left out: in every namespace, whichever the policy's is
    if "namespace" in parts:
        namespace = parts["namespace"].text(objectnames.DNS_LABEL, objectnames.DNS_LABEL_RULE)
    if what not in parts or namespace is None:
        return None
    if what == "selector":
        selector = selectors.read_selector(parts[what], selectors.plain_key)
        return model.ServicePeer(namespace, selector=selector)
    name = parts[what].text(objectnames.DNS_NAME, objectnames.DNS_NAME_RULE)
    return model.ServicePeer(namespace, name) if name else None


def _check_group(item: field.Field, context: Context) -> None:
    """Check a group of a cloud's machines; nobody knows their addresses here, so it is no peer."""
    groups = item.fields(("aws",), required=("aws",))
    parts = groups["aws"].fields(AWS_KEYS) if "aws" in groups else {}
    if "labels" in parts:
        for value in (parts["labels"].mapping() or {}).values():
            value.text()
    if "region" in parts:
        parts["region"].text()
    for key in AWS_KEYS[2:]:
        for value in parts[key].items() if key in parts else ():
            value.text()
    if context.is_deny:
        item.problem("groups of a cloud are not known here: to deny them would deny nothing (use CIDRSet)")
    else:
        item.advise("groups of a cloud are not known here: this selects nobody")
