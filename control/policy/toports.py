"""`toPorts`: ports together with what a rule asks of the bytes that go through them.

What is not served here is accepted and told of, and then its item allows nothing: it never becomes a plain port.
"""

import dataclasses
from collections.abc import Iterable

from control import model
from control.policy import field, fqdn, l7, objectnames, ports
from control.policy.context import Context
from loader import abi

ALLOW_ONLY = ("rules", "serverNames", "terminatingTLS", "originatingTLS", "listener")
TLS_KEYS = ("secret", "trustedCA", "certificate", "privateKey")
ENVOY_KINDS = {"CiliumEnvoyConfig": "", "CiliumClusterwideEnvoyConfig": ""}
DNS_PROTOCOLS = (abi.Proto.TCP, abi.Proto.UDP)

Specs = tuple[model.PortSpec, ...]


@dataclasses.dataclass(frozen=True)
class Item:
    """One item: no ports where it allows nothing."""

    place: field.Field
    specs: Specs
    asked: l7.Asked | None = None


def read_to_ports(place: field.Field, context: Context) -> list[Item]:
    """Read `toPorts`."""
    return [_read_item(item, context) for item in place.each()]


def grouped(items: Iterable[Item]) -> list[tuple[Specs, model.L7Rules | None]]:
    """Return the ports of items that ask the same, together; for no items, no ports."""
    groups: dict[model.L7Rules | None, dict[model.PortSpec, None]] = {}
    for item in items:
        asked = item.asked.rules if item.asked and item.specs else None
        groups.setdefault(asked, {}).update(dict.fromkeys(item.specs))
    if len(groups) > 1 and not groups.get(None, True):
        del groups[None]  # what allows nothing needs no rule beside others
    return [(tuple(specs), asked) for asked, specs in groups.items()] or [((), None)]


def refuse_mixed(rules: Iterable[tuple[model.Rule, list[Item]]]) -> None:
    """Report ports of one rule set that are to speak two protocols.

    HTTP and server names go together, for different peers: the name is said before the first request.
    """
    together = {l7.HTTP, l7.SERVER_NAMES}
    numbers: dict[tuple[model.Peer, ...] | None, int] = {}
    seen: dict[tuple[abi.Direction, model.PortSpec], dict[str, set[int]]] = {}  # for each kind, for which peers
    for rule, items in rules:
        who = numbers.setdefault(rule.peers, len(numbers))
        for item in items:
            if item.asked is None:
                continue
            kind, clash = item.asked.kind, ""
            for spec in item.specs:
                kinds = seen.setdefault((rule.direction, spec), {})
                others = (k for k, peers in kinds.items() if k != kind and ({k, kind} != together or who in peers))
                clash = clash or next(others, "")
                kinds.setdefault(kind, set()).add(who)
            if clash:
                item.place.problem(f"has {kind} rules on a port that has {clash} rules already (one kind for a port)")


def _read_item(item: field.Field, context: Context) -> Item:
    entries = item.fields(("ports", *ALLOW_ONLY))
    if context.is_deny:
        for key in ALLOW_ONLY:
            if key in entries:
                entries[key].problem("is for allow rules only (a deny rule has ports)")
        return Item(item, _specs(ports.read_ports(item, entries)))
    found = ports.read_ports(item, entries)
    asked = l7.read_rules(entries["rules"], context) if "rules" in entries else None
    if "serverNames" in entries:
        names = fqdn.read_server_names(entries["serverNames"])
        if asked and "terminatingTLS" not in entries:
            entries["serverNames"].problem("cannot be combined with rules (use two items, or terminatingTLS)")
        if context.of_nodes:
            entries["serverNames"].problem("a host policy can only have DNS rules, on egress")
        asked = asked or l7.Asked(l7.SERVER_NAMES, model.L7Rules(server_names=names))
    specs = _served(found, asked.kind) if asked else _specs(found)
    is_served = True
    for key in ("terminatingTLS", "originatingTLS"):
        if key in entries:
            is_served = False
            _check_tls(entries[key], context)
            entries[key].advise("TLS is not ended or begun here, so this item allows nothing")
    if "listener" in entries:
        is_served = False
        _check_listener(entries["listener"], context, "rules" in entries and asked is not None)
        entries["listener"].advise("there is no Envoy here to listen, so this item allows nothing")
    return Item(item, specs if is_served else (), asked)


def _specs(found: Iterable[ports.Port]) -> Specs:
    return tuple(dict.fromkeys(spec for port in found for spec in port.specs))


def _served(found: Iterable[ports.Port], kind: str) -> Specs:
    """Return the ports as far as their protocol can carry rules of kind; reports where it cannot."""
    out: list[model.PortSpec] = []
    for port in found:
        is_any = port.protocols == ports.TRANSPORTS
        if port.port == 0 and kind != l7.SERVER_NAMES:
            port.place.problem(f"{kind} rules cannot be used with port 0 (name the ports)")
        if kind == l7.DNS:
            if port.end and port.end != port.port:
                port.place.problem("DNS rules cannot be used with a range of ports (name each port)")
            carries: tuple[abi.Proto, ...] = DNS_PROTOCOLS
            allowed = "TCP, UDP, ANY"
        else:
            carries, allowed = (abi.Proto.TCP,), "TCP"
        if is_any and kind == l7.SERVER_NAMES:
            port.place.advise("server names are of TCP: other protocols are not allowed by this item")
        elif not set(port.protocols) <= set(carries) and not (is_any and kind == l7.DNS):
            names, remedy = ("ANY", f"write protocol: {allowed}") if is_any else (port.protocols[0].name, allowed)
            port.place.problem(f"{kind} rules cannot be used with protocol {names} ({remedy})")
        out += (spec for spec in port.specs if spec.proto in carries)
    return tuple(dict.fromkeys(out))


def _check_tls(place: field.Field, context: Context) -> None:
    parts = place.fields(TLS_KEYS, required=("secret",))
    if "secret" in parts:
        l7.read_secret(parts["secret"], context.namespace)
    for key in TLS_KEYS[1:]:
        if key in parts:
            parts[key].text()


def _check_listener(place: field.Field, context: Context, has_rules: bool) -> None:
    parts = place.fields(("envoyConfig", "name", "priority"), required=("envoyConfig", "name"))
    if context.way == "from":
        place.problem("is for egress only")
    if has_rules:
        place.problem("cannot be combined with rules (use two items)")
    if "name" in parts:
        parts["name"].text()
    if "priority" in parts:
        parts["priority"].integer(1, 100)
    if "envoyConfig" in parts:
        config = parts["envoyConfig"].fields(("kind", "name"), required=("name",))
        if "kind" in config:
            config["kind"].choice(ENVOY_KINDS)
        if "name" in config:
            config["name"].text(objectnames.DNS_NAME, objectnames.DNS_NAME_RULE)
