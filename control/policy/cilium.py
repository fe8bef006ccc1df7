"""The Cilium rule language, which MeshNetworkPolicy shares: one `spec` (or each of `specs`) to a `Section`."""

from control import model
from control.policy import field, peers, ports, selectors
from loader import abi

LISTS = {
    "ingress": (abi.Direction.INGRESS, abi.Verdict.ALLOW),
    "ingressDeny": (abi.Direction.INGRESS, abi.Verdict.DENY),
    "egress": (abi.Direction.EGRESS, abi.Verdict.ALLOW),
    "egressDeny": (abi.Direction.EGRESS, abi.Verdict.DENY),
}
SPEC_KEYS = ("endpointSelector", *LISTS, "enableDefaultDeny", "labels", "description", "log")
DIRECTIONS = {"ingress": abi.Direction.INGRESS, "egress": abi.Direction.EGRESS}


def read_section(spec: field.Field, namespace: str, own_kind: bool) -> model.Section:
    """Read one rule set. `own_kind`: the document is ours, so it may have `audit`; report collects what is wrong."""
    entries = spec.fields((*SPEC_KEYS, "audit") if own_kind else SPEC_KEYS, later=("nodeSelector",))
    subject = model.Selector()
    if "endpointSelector" in entries:
        subject = selectors.read_selector(entries["endpointSelector"], selectors.sourced_key)
    elif isinstance(spec.node.value, dict) and "nodeSelector" not in spec.node.value:
        spec.problem("endpointSelector is missing ({} selects every endpoint)")
    rules: list[model.Rule] = []
    for key, (direction, verdict) in LISTS.items():
        for item in entries[key].items() if key in entries else ():
            rules.append(_read_rule(item, direction, verdict, namespace))
    if not rules and isinstance(spec.node.value, dict):
        spec.problem(f"must have at least one rule {field.one_of(LISTS)}")
    _check_metadata(entries)
    present = frozenset(rule.direction for rule in rules)
    return model.Section(
        path=spec.path,
        subject=selectors.scope_subject(subject, namespace),
        directions=present,
        default_deny=_default_deny(entries, present),
        rules=tuple(rules),
        audit=bool(entries["audit"].boolean()) if "audit" in entries else False,
        source=spec.source,
    )


def _read_rule(item: field.Field, direction: abi.Direction, verdict: abi.Verdict, namespace: str) -> model.Rule:
    way = "from" if direction == abi.Direction.INGRESS else "to"
    later = peers.LATER_FROM if way == "from" else peers.LATER_TO
    gone = f"{way}Requires"
    allowed = [*(way + kind for kind in peers.KINDS), "toPorts", "icmps", gone]
    if verdict == abi.Verdict.ALLOW:
        allowed.append("authentication")
    entries = item.fields(allowed, later=later)
    if gone in entries and entries[gone].items():
        entries[gone].problem(f"is no longer part of the language (use {way}Endpoints with matchExpressions)")
    if "authentication" in entries:
        # Required authentication narrows a rule: to take the rule without it would widen access.
        mode = entries["authentication"].fields(("mode",), required=("mode",)).get("mode")
        if mode and mode.choice({"disabled": 0, "required": 1, "test-always-fail": 2}):
            mode.problem(f"{field.quote(mode.node.value)} is not supported yet (disabled)")
    specs: tuple[model.PortSpec, ...] | None = None
    to_ports = entries.get("toPorts")
    icmps = entries.get("icmps")
    if to_ports and icmps and to_ports.node.value and icmps.node.value:
        icmps.problem("cannot be combined with toPorts (use two rules)")
    if to_ports and to_ports.node.value != ():
        specs = ports.read_port_rules(to_ports)
    elif icmps and icmps.node.value != ():
        specs = ports.read_icmps(icmps)
    who = peers.read_peers(entries, way, namespace)
    if who is None and specs is None:
        who = ()  # the empty rule names nobody: it allows nothing, it only makes its direction a selected one
    return model.Rule(direction, verdict, who, specs, item.path, item.source)


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
