"""Label selectors: what may be written, and how a policy's scope is added to them.

A selector of a namespaced policy means endpoints of that namespace unless it names another one itself. A selector that
names no `reserved:` label never means anything but endpoints, however negative its conditions are.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from control import model
from control.policy import field

SOURCES = ("any", "k8s", "reserved", "cidr", "fqdn", "cidrgroup")
OUTSIDE = ("cidr", "fqdn", "cidrgroup")  # sources of labels that only addresses outside pods have
RESERVED = (
    "host", "world", "world-ipv4", "world-ipv6", "unmanaged", "health", "init", "remote-node", "kube-apiserver",
    "ingress",
)  # fmt: skip
OPERATORS = {operator.value: operator for operator in model.Operator}

_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
VALUE_RULE = "at most 63 letters, digits, - _ and ., beginning and ending with a letter or digit"
KEY_RULE = "an optional DNS name and /, then " + VALUE_RULE
IS_ENDPOINT = model.Requirement("k8s", model.NAMESPACE_KEY, model.Operator.EXISTS)

KeyReader = Callable[[str], tuple[str, str] | None]


def is_label_key(key: str) -> bool:
    """Tell whether key is one that Kubernetes takes."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= 253 and _PREFIX.fullmatch(prefix)):
        return False
    return _NAME.fullmatch(name) is not None


def read_labels(field_: field.Field) -> dict[str, str]:
    """Read a mapping of plain label keys to values, in the order of the keys."""
    out = {}
    for key, item in sorted((field_.mapping() or {}).items()):
        if not is_label_key(key):
            item.problem(f"invalid label key ({KEY_RULE})")
        value = item.text(_VALUE, VALUE_RULE)
        if value is not None:
            out[key] = value
    if isinstance(field_.node.value, dict):
        for key, node in field_.node.value.items():
            if node.value is None:  # Kubernetes refuses it too; dropped, it could widen a selector
                field_.child(key, node).problem('must be a string, is nothing (write "")')
    return out


def plain_key(key: str) -> tuple[str, str] | None:
    """Read a key of a Kubernetes selector: always a label of the object itself."""
    return ("k8s", key) if is_label_key(key) else None


def namespace_key(key: str) -> tuple[str, str] | None:
    """Read a key of a Kubernetes namespaceSelector."""
    return ("k8s", model.NAMESPACE_LABEL_PREFIX + key) if is_label_key(key) else None


def sourced_key(key: str) -> tuple[str, str] | None:
    """Read a key of the Cilium language, "source:key" or "key" of any source."""
    source, colon, rest = key.partition(":")
    if not colon:
        return ("any", key) if is_label_key(_without_prefix(key)) else None
    if source not in SOURCES or not rest:
        return None
    return (source, rest) if source != "k8s" or is_label_key(_without_prefix(rest)) else None


def _without_prefix(key: str) -> str:
    # A namespace label behind its long prefix is longer than a label key may be, and may hold a "/" of its own.
    return key.removeprefix(model.NAMESPACE_LABEL_PREFIX)


def read_selector(field_: field.Field, read_key: KeyReader) -> model.Selector:
    """Read matchLabels and matchExpressions; `{}` gives the selector of everything."""
    labels, expressions = _read_parts(field_, read_key)
    return model.Selector((*labels, *expressions))


def _read_parts(field_: field.Field, read_key: KeyReader) -> tuple[list[model.Requirement], list[model.Requirement]]:
    """Return what matchLabels and what matchExpressions ask for."""
    entries = field_.fields(("matchLabels", "matchExpressions"))
    asked: list[model.Requirement] = []
    expressions: list[model.Requirement] = []
    if labels := entries.get("matchLabels"):
        raw = labels.node.value
        for key, node in sorted(raw.items()) if isinstance(raw, dict) else ():
            place = labels.child(key, node)
            value = place.text(_VALUE, VALUE_RULE)
            if found := _key(place, key, read_key):
                asked.append(model.Requirement(*found, model.Operator.IN, (value or "",)))
                _check_source(place, asked[-1])
        if not isinstance(raw, dict):
            labels.mapping()
    for item in entries["matchExpressions"].items() if "matchExpressions" in entries else ():
        requirement = _expression(item, read_key)
        if requirement is not None:
            expressions.append(requirement)
            _check_source(item.child("key", item.node), requirement)
    return asked, expressions


def read_subject(field_: field.Field, namespace: str) -> model.Selector:
    """Read whom a policy of the Cilium language selects: endpoints of its own namespace (empty: of all of them).

    Its namespace takes the place of one in matchLabels. What matchExpressions say of namespaces stays beside it.
    """
    labels, expressions = _read_parts(field_, sourced_key)
    if not namespace:
        return model.Selector((*labels, *expressions, IS_ENDPOINT))
    own = values_of([f"k8s:{model.NAMESPACE_KEY}={namespace}"])
    rule = f"a policy selects in its own namespace: {namespace}"
    if any(_is_of_namespace(r) and not _fulfils(r, own) for r in labels):
        field_.advise(f"{rule} (the other one in matchLabels has no effect)")
    if any(_is_of_namespace(r) and not _fulfils(r, own) for r in expressions):
        field_.advise(f"{rule}, where nobody fulfils matchExpressions, so this selects nobody")
    kept = (r for r in labels if not _is_of_namespace(r))
    return model.Selector((*kept, *expressions, in_namespace(namespace)))


def _is_of_namespace(requirement: model.Requirement) -> bool:
    return requirement.source in ("any", "k8s") and requirement.key == model.NAMESPACE_KEY


def _key(place: field.Field, key: str, read_key: KeyReader) -> tuple[str, str] | None:
    found = read_key(key) if field.is_fit(key) else None
    if found is None:
        place.problem(f"invalid label key {field.quote(key)}{_key_rule(key, read_key)}")
    return found


def _key_rule(key: str, read_key: KeyReader) -> str:
    """Return what a key must be instead, as the end of a message."""
    if read_key is sourced_key:
        return f" ({KEY_RULE}; sources: {', '.join(SOURCES)})"
    source, colon, rest = key.partition(":")
    if not colon or source not in SOURCES or not is_label_key(rest):
        return f" ({KEY_RULE})"
    remedy = f"write {rest}" if source in ("any", "k8s") else "of the object's own labels only"
    return f": {source}: in front of a key is for selectors of endpoints in Cilium's language ({remedy})"


def _check_source(place: field.Field, requirement: model.Requirement) -> None:
    """Refuse to ask for a label that nothing can have: a deny that asks for it would deny nothing."""
    source, key = requirement.source, requirement.key
    if requirement.operator in (model.Operator.NOT_IN, model.Operator.DOES_NOT_EXIST):
        return
    if source == "reserved" and key not in RESERVED:
        known = field.one_of([f"reserved:{name}" for name in RESERVED])
        place.problem(f"{field.quote(f'reserved:{key}')} is unknown: nobody has it {known}")


def _expression(item: field.Field, read_key: KeyReader) -> model.Requirement | None:
    parts = item.fields(("key", "operator", "values"), required=("key", "operator"))
    key = parts["key"].text() if "key" in parts else None
    found = _key(parts["key"], key, read_key) if key is not None else None
    operator = parts["operator"].choice(OPERATORS) if "operator" in parts else None
    values = tuple(
        value
        for value in (v.text(_VALUE, VALUE_RULE) for v in (parts["values"].items() if "values" in parts else ()))
        if value is not None
    )
    if operator in (model.Operator.IN, model.Operator.NOT_IN) and not (
        "values" in parts and parts["values"].node.value
    ):
        item.problem(f"operator {operator.value} needs values")
        return None
    if operator in (model.Operator.EXISTS, model.Operator.DOES_NOT_EXIST) and values:
        item.problem(f"operator {operator.value} takes no values")
        return None
    return model.Requirement(*found, operator, values) if found and operator else None


def holds(selector: model.Selector, labels: Iterable[str]) -> bool:
    """Tell whether a label set ("source:key=value") fulfils every condition of a selector."""
    return fulfils(selector, values_of(labels))


def values_of(labels: Iterable[str]) -> dict[tuple[str, str], set[str]]:
    """Return a label set's values by (source, key), each also under the source "any"."""
    out: dict[tuple[str, str], set[str]] = {}
    for label in labels:
        source, _, rest = label.partition(":")
        key, _, value = rest.partition("=")
        for name in (source, "any"):
            out.setdefault((name, key), set()).add(value)
    return out


def fulfils(selector: model.Selector, values: Mapping[tuple[str, str], set[str]]) -> bool:
    """Tell whether what `values_of` gave fulfils every condition of a selector."""
    return all(_fulfils(requirement, values) for requirement in selector.requirements)


def _fulfils(requirement: model.Requirement, values: Mapping[tuple[str, str], set[str]]) -> bool:
    found = values.get((requirement.source, requirement.key), set())
    match requirement.operator:
        case model.Operator.IN:
            return not found.isdisjoint(requirement.values)
        case model.Operator.NOT_IN:
            return found.isdisjoint(requirement.values)
        case model.Operator.EXISTS:
            return bool(found)
        case model.Operator.DOES_NOT_EXIST:
            return not found


def reserved(selector: model.Selector) -> tuple[str, ...]:
    """Return which reserved labels a selector asks for: where any, it means no workload, but nodes, the world ..."""
    positive = (model.Operator.IN, model.Operator.EXISTS)
    asked = (r.key for r in selector.requirements if r.source == "reserved" and r.operator in positive)
    return tuple(dict.fromkeys(asked))


def in_namespace(namespace: str) -> model.Requirement:
    return model.Requirement("k8s", model.NAMESPACE_KEY, model.Operator.IN, (namespace,))


def scope_peer(selector: model.Selector, namespace: str) -> model.Selector:
    """Return a peer selector of the Cilium language as it counts in namespace (empty: cluster-wide)."""
    if any(r.source == "reserved" for r in selector.requirements):
        return selector
    names_one = any(
        r.source in ("any", "k8s") and (r.key == model.NAMESPACE_KEY or r.key.startswith(model.NAMESPACE_LABEL_PREFIX))
        for r in selector.requirements
    )
    if namespace and not names_one:
        return selector.with_requirements(in_namespace(namespace))
    return selector.with_requirements(IS_ENDPOINT)


def scope_subject(selector: model.Selector, namespace: str) -> model.Selector:
    """Return all whom a policy may select: endpoints of its own namespace, whatever its selector says of namespaces.

    `read_subject` may select fewer: this is for what stands in for a policy that cannot be read.
    """
    if not namespace:
        return selector.with_requirements(IS_ENDPOINT)
    own = tuple(r for r in selector.requirements if r.key != model.NAMESPACE_KEY)
    return model.Selector((*own, in_namespace(namespace)))
