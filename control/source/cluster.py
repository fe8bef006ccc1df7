"""What belongs to no namespace: v1 Namespace and v1 Node."""

from control import model
from control.policy import field, parse

AUDIT = "sockmesh.io/audit"
ADDRESS_TYPES = ("InternalIP", "ExternalIP")  # in this order; the others are names


def read_namespace(document: field.Field) -> model.Namespace:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec", "status"), required=("metadata",))
    _, name, labels = parse.read_metadata(document, entries, False)
    if name and not parse.DNS_LABEL.fullmatch(name):
        document.problem(f"metadata.name: invalid {field.quote(name)} ({parse.DNS_LABEL_RULE})")
    if labels.get(model.NAMESPACE_NAME_LABEL, name) != name:
        document.problem(f"metadata.labels: {model.NAMESPACE_NAME_LABEL} is always the namespace's own name")
    return model.Namespace(name, labels, document.source, _read_audit(entries))


def _read_audit(entries: dict[str, field.Field]) -> bool:
    metadata = entries["metadata"].node.value if "metadata" in entries else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    node = annotations.value.get(AUDIT) if annotations and isinstance(annotations.value, dict) else None
    if node is None or not isinstance(node.value, str | None):  # anything else has been told of by read_metadata
        return False
    place = entries["metadata"].child(f"annotations.{AUDIT}", node)
    return place.choice({"true": True, "false": False}) is True


def read_node(document: field.Field) -> model.Node:
    entries = document.fields(("apiVersion", "kind", "metadata", "status"), required=("metadata",))
    _, name, labels = parse.read_metadata(document, entries, False)
    status = entries["status"].fields(("addresses",)) if "status" in entries else {}
    ips: dict[str, str] = {}
    for item in status["addresses"].items() if "addresses" in status else ():
        parts = item.fields(("type", "address"), required=("type", "address"))
        kind = parts["type"].text() if "type" in parts else None
        ip = parts["address"].address() if "address" in parts and kind in ADDRESS_TYPES else None
        if ip is not None:
            ips.setdefault(ip, kind or "")
    inner_first = sorted(ips, key=lambda ip: ADDRESS_TYPES.index(ips[ip]))
    return model.Node(name, labels, tuple(inner_first), document.source)
