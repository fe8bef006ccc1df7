"""The Cilium rule language, which MeshNetworkPolicy shares: one `spec` (or each of `specs`) to a `Section`."""

import dataclasses

from control import model
from control.policy import field, peers, ports, selectors, toports
from control.policy.context import IN_OUR_KINDS, Context
from loader import abi

LISTS = {
    "ingress": (abi.Direction.INGRESS, abi.Verdict.ALLOW),
    "ingressDeny": (abi.Direction.INGRESS, abi.Verdict.DENY),
    "egress": (abi.Direction.EGRESS, abi.Verdict.ALLOW),
    "egressDeny": (abi.Direction.EGRESS, abi.Verdict.DENY),
}
SPEC_KEYS = ("endpointSelector", "nodeSelector", *LISTS, "enableDefaultDeny", "labels", "description", "log")
DIRECTIONS = {"ingress": abi.Direction.INGRESS, "egress": abi.Direction.EGRESS}
AUTHENTICATION = {"disabled": True, "required": False, "test-always-fail": False}
NO_RULE = f"must have at least one rule {field.one_of(LISTS)}"
HOST_POLICY = "host policies are checked, and not enforced on nodes yet"


def read_section(spec: field.Field, context: Context) -> model.Section:
    """Read one rule set; report collects what is wrong."""
    if not isinstance(spec.node.value, dict):
        spec.mapping()
        return model.Section(spec.path, model.Selector(), frozenset(), frozenset(), ())
    entries = spec.fields((*SPEC_KEYS, *IN_OUR_KINDS) if context.own else SPEC_KEYS, elsewhere=IN_OUR_KINDS)
    if "nodeSelector" in entries and "endpointSelector" not in entries:
        context = dataclasses.replace(context, of_nodes=True)
    subject = _read_subject(spec, entries, context)
    read: list[tuple[model.Rule, list[toports.Item]]] = []
    rules: list[model.Rule] = []
    for key, (direction, verdict) in LISTS.items():
        if key not in entries:
            continue
        of_list = dataclasses.replace(context, direction=direction, verdict=verdict)
        for item in entries[key].each():
            of_item, items = _read_rule(item, of_list)
            rules += of_item
            read.append((of_item[0], items))
    toports.refuse_mixed(read)
    if not rules:
        spec.problem(NO_RULE)
    else:
        _tell_of_empty(entries)
    _check_metadata(entries)
    present = frozenset(rule.direction for rule in rules)
    return model.Section(
        path=spec.path,
        subject=subject,
        directions=present,
        default_deny=_default_deny(entries, present),
        rules=tuple(rules),
        audit=bool(entries["audit"].boolean()) if "audit" in entries else False,
        source=spec.source,
        of_nodes=context.of_nodes,
    )


def _read_subject(spec: field.Field, entries: dict[str, field.Field], context: Context) -> model.Selector:
    found = {}
    if "endpointSelector" in entries:
        found["endpointSelector"] = selectors.read_subject(entries["endpointSelector"], context.namespace)
    if "nodeSelector" in entries:
        found["nodeSelector"] = selectors.read_selector(entries["nodeSelector"], selectors.sourced_key)
    if "nodeSelector" in entries:
        place = entries["nodeSelector"]
        if not context.cluster_wide:
            place.problem("is for cluster-wide kinds only (endpointSelector)")
        elif "endpointSelector" in entries:
            place.problem("cannot be combined with endpointSelector (use two of specs)")
        else:
            place.advise(HOST_POLICY)
    elif not found:
        or_nodes = ", or nodeSelector" if context.cluster_wide else ""
        spec.problem(f"endpointSelector is missing ({{}} selects every endpoint{or_nodes})")
    if context.of_nodes:
        return found["nodeSelector"]
    return found.get("endpointSelector") or selectors.scope_subject(model.Selector(), context.namespace)


def _tell_of_empty(entries: dict[str, field.Field]) -> None:
    """Advise where a list without rules looks like the way to close a direction, and nothing else is said of it."""
    asked = entries["enableDefaultDeny"].node.value if "enableDefaultDeny" in entries else None
    for key, (_, verdict) in LISTS.items():
        if key not in entries or entries[key].node.value != () or (isinstance(asked, dict) and key in asked):
            continue
        what = "denies nothing" if verdict == abi.Verdict.DENY else f"closes nothing ({key}: [{{}}] does)"
        entries[key].advise(f"is empty, so it {what}")


def _read_rule(item: field.Field, context: Context) -> tuple[list[model.Rule], list[toports.Item]]:
    """Return what one item of a list of rules means, several rules where its ports differ in L7, and its ports."""
    gone = f"{context.way}Requires"
    allowed = [*(context.way + kind for kind in peers.kinds(context)), "toPorts", "icmps", gone]
    if not context.is_deny:
        allowed.append("authentication")
    entries = item.fields(allowed)
    if gone in entries and entries[gone].items():
        entries[gone].problem(f"is no longer part of the language (use {context.way}Endpoints with matchExpressions)")
    if context.is_deny and not context.own and "toFQDNs" in entries:
        entries["toFQDNs"].problem("is for allow rules only in this kind (MeshNetworkPolicy has it in egressDeny too)")
    groups: list[tuple[tuple[model.PortSpec, ...] | None, model.L7Rules | None]] = [(None, None)]
    items: list[toports.Item] = []
    to_ports, icmps = entries.get("toPorts"), entries.get("icmps")
    for place in (to_ports, icmps):
        if place and place.node.value == ():
            place.advise("is empty, which counts as not given: it names no port and no type")
    if to_ports and icmps and to_ports.node.value and icmps.node.value:
        icmps.problem("cannot be combined with toPorts (use two rules)")
    if to_ports and to_ports.node.value != ():
        items = toports.read_to_ports(to_ports, context)
        groups = [*toports.grouped(items)]
    if icmps and icmps.node.value != ():
        of_icmp = ports.read_icmps(icmps)
        groups = groups if items else [(of_icmp, None)]
    who = peers.read_peers(entries, context)
    if who is None and groups == [(None, None)]:
        who = ()  # the empty rule names nobody: it allows nothing, it only makes its direction a selected one
        if context.is_deny:  # of those that allow it is the usual way to close a direction
            item.advise(f"names nobody, so it denies nothing ({context.way}Entities: [all] is everybody)")
    if "authentication" in entries and not _is_served(entries["authentication"]):
        who = ()
    rules = [
        model.Rule(
            context.direction,
            abi.Verdict.PROXY if asked else context.verdict,
            who,
            specs,
            item.path,
            item.source,
            asked,
        )
        for specs, asked in groups
    ]
    return rules, items


def _is_served(authentication: field.Field) -> bool:
    """Tell whether a rule can count as it is; one that asks for a proof of identity would be wider without it."""
    mode = authentication.fields(("mode",), required=("mode",)).get("mode")
    served = mode.choice(AUTHENTICATION) if mode else False
    if mode and served is False:
        mode.advise("peers do not authenticate here, so this rule allows nothing (allowed: disabled)")
    return bool(served)


def _default_deny(entries: dict[str, field.Field], present: frozenset[abi.Direction]) -> frozenset[abi.Direction]:
    """Return where default deny is on: where asked for, else where there is any rule."""
    asked = entries["enableDefaultDeny"].fields(tuple(DIRECTIONS)) if "enableDefaultDeny" in entries else {}
    out = set()
    for name, direction in DIRECTIONS.items():
        wanted = asked[name].boolean() if name in asked else direction in present
        if wanted is not False:  # not readable counts as on; the policy is invalid then anyway
            out |= {direction} if wanted or name in asked else set()
    return frozenset(out)


def _check_metadata(entries: dict[str, field.Field]) -> None:
    if "description" in entries:
        entries["description"].prose()
    if "log" in entries:
        value = entries["log"].fields(("value",)).get("value")
        text = value.text(most=32) if value else None
        if value and text and not text.isprintable():
            value.problem("must be printable")
    for item in entries["labels"].items() if "labels" in entries else ():
        parts = item.fields(("key", "value", "source"), required=("key",))
        for part in parts.values():
            part.text()
