"""A policy document of any kind to a `Policy`: the one door for every source.

What cannot be read is never silence: `stand_in` gives the deny that takes an unreadable policy's place.
"""

import dataclasses
from collections.abc import Iterator

from control import model
from control.policy import cilium, field, kubernetes, objectnames, selectors
from control.policy.context import Context
from loader import abi

KUBERNETES = ("networking.k8s.io/v1", "NetworkPolicy")
CILIUM = {
    ("cilium.io/v2", "CiliumNetworkPolicy"),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
}
OWN = {
    ("sockmesh.io/v1", "MeshNetworkPolicy"),
    ("sockmesh.io/v1", "ClusterMeshNetworkPolicy"),
}
KINDS = {KUBERNETES, *CILIUM, *OWN}
CLUSTER_WIDE = {"CiliumClusterwideNetworkPolicy", "ClusterMeshNetworkPolicy"}

DNS_LABEL, DNS_LABEL_RULE = objectnames.DNS_LABEL, objectnames.DNS_LABEL_RULE
DNS_NAME, DNS_NAME_RULE = objectnames.DNS_NAME, objectnames.DNS_NAME_RULE

KEYS = ("apiVersion", "kind", "metadata", "spec", "specs", "status")
_SPEC_KEYS = (*cilium.SPEC_KEYS, "audit")
KUBERNETES_KEYS = ("apiVersion", "kind", "metadata", "spec", "status")

# What the API server adds to every object; it means nothing here.
_METADATA_NOISE = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "ownerReferences",
    "finalizers", "generateName", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
METADATA_KEYS = ("name", "namespace", "labels", "annotations", *_METADATA_NOISE)


def read_metadata(document: field.Field, entries: dict[str, field.Field], namespaced: bool) -> tuple[str, str, dict]:  # type: ignore[type-arg]
    """Read namespace (empty where the kind has none), name and labels; a name that cannot be read is empty."""
    if "metadata" not in entries:
        return ("default" if namespaced else ""), "", {}
    parts = entries["metadata"].fields(METADATA_KEYS, required=("name",))
    name = parts["name"].text(DNS_NAME, DNS_NAME_RULE) if "name" in parts else None
    namespace: str | None = "default" if namespaced else ""
    if "namespace" in parts and namespaced:
        namespace = parts["namespace"].text(DNS_LABEL, DNS_LABEL_RULE)
    elif "namespace" in parts:
        parts["namespace"].problem("this kind belongs to no namespace")
    labels = selectors.read_labels(parts["labels"]) if "labels" in parts else {}
    for key, annotation in (parts["annotations"].mapping() or {}).items() if "annotations" in parts else ():
        if not selectors.is_label_key(key.lower()):  # unlike in a label, what is in front of the / may have capitals
            annotation.problem(f"invalid annotation key ({selectors.KEY_RULE})")
        annotation.prose(most=262144)
    return namespace or "", name or "", labels


def parse_policy(document: field.Field, api_version: str, kind: str) -> model.Policy | None:
    """Read a policy of one of KINDS. None: it has problems, all of them reported."""
    before = document.report.count
    is_kubernetes = (api_version, kind) == KUBERNETES
    cluster_wide = kind in CLUSTER_WIDE
    entries = document.fields(KUBERNETES_KEYS if is_kubernetes else KEYS, required=("metadata",))
    namespace, name, labels = read_metadata(document, entries, not cluster_wide)
    context = Context(namespace, cluster_wide, own=(api_version, kind) in OWN)
    counted = document.report.count
    sections: list[model.Section] = []
    for spec in _specs(entries):
        if is_kubernetes:
            sections.append(kubernetes.read_section(spec, namespace))
        else:
            sections.append(cilium.read_section(spec, context))
    if not sections and isinstance(document.node.value, dict) and document.report.count == counted:
        document.problem("spec is missing")
    if document.report.count > before:
        return None
    own_labels = tuple(f"k8s:{k}={v}" for k, v in labels.items())
    return model.Policy(kind, namespace, name, tuple(sections), document.source, own_labels)


def _specs(entries: dict[str, field.Field]) -> Iterator[field.Field]:
    """Yield the rule sets of a policy."""
    if "spec" in entries:
        yield entries["spec"]
    if "specs" in entries:
        yield from entries["specs"].each()


def stand_in(document: field.Field, kind: str) -> model.Policy | None:
    """Return the deny-all for a policy that has problems, on whom it selects; None where that cannot all be read."""
    quiet = field.Report(document.report.file)
    silent = field.Field(document.node, document.path, quiet, document.prefix)
    entries = silent.mapping() or {}
    if "metadata" not in entries:
        return None
    metadata = entries["metadata"].mapping() or {}
    name = metadata["name"].text(DNS_NAME) if "name" in metadata else None
    namespace = "" if kind in CLUSTER_WIDE else _namespace(entries, metadata)
    if not name or namespace is None:
        return None
    if any(key not in KEYS and isinstance(entry.node.value, dict | tuple) for key, entry in entries.items()):
        return None  # `spec` or `specs` mistyped: it may select anybody
    sections: list[model.Section] = []
    for spec in _specs(entries):
        section = _deny_section(spec, kind, namespace, name)
        if section is None:
            return None
        sections.append(section)
    if quiet.count or not sections:
        return None
    return model.Policy(kind, namespace, name, tuple(sections), document.source, invalid=True)


def deny(policy: model.Policy) -> model.Policy:
    """Return the deny-all for a policy that can be read but must not be used, on whom it selects."""
    sections = (
        _deny_all(s.subject, policy.namespace, policy.name, s.audit, s.source, s.of_nodes) for s in policy.sections
    )
    return dataclasses.replace(policy, sections=tuple(sections), invalid=True)


def deny_everything(file: str) -> model.Policy:
    """Return the deny-all, on every pod, for a file of which nobody can tell whom its policies select."""
    section = _deny_all(model.Selector(), "", file, False, file)
    return model.Policy("CiliumClusterwideNetworkPolicy", "", f"invalid:{file}", (section,), file, invalid=True)


def _namespace(entries: dict[str, field.Field], metadata: dict[str, field.Field]) -> str | None:
    """Return the namespace of a policy that has problems; None: nobody can tell."""
    if "namespace" in metadata:
        return metadata["namespace"].text(DNS_LABEL)
    # It is left out only where nothing stands beside that may be it, mistyped or wrongly indented.
    is_odd = any(key not in METADATA_KEYS for key in metadata) or any(key not in KEYS for key in entries)
    return None if is_odd else "default"


def _deny_section(spec: field.Field, kind: str, namespace: str, name: str) -> model.Section | None:
    before = spec.report.count
    is_kubernetes = kind == KUBERNETES[1]
    entries = spec.mapping() or {}
    place = entries.get("podSelector" if is_kubernetes else "endpointSelector")
    of_nodes = place is None and kind in CLUSTER_WIDE and "nodeSelector" in entries
    if of_nodes:
        if any(key not in _SPEC_KEYS and isinstance(entry.node.value, dict | tuple) for key, entry in entries.items()):
            return None  # `endpointSelector` mistyped: it may select any pod
        place = entries["nodeSelector"]
    if place is None or "namespace" in entries:  # the metadata's, wrongly indented
        return None
    subject = selectors.read_selector(place, selectors.plain_key if is_kubernetes else selectors.sourced_key)
    if spec.report.count > before:
        return None
    # A policy that only watches must not begin to cut because of a mistake in it.
    audit = kind in {own for _, own in OWN} and "audit" in entries and entries["audit"].node.value is True
    subject = subject if of_nodes else selectors.scope_subject(subject, namespace)
    return _deny_all(subject, namespace, name, audit, spec.source, of_nodes)


def _deny_all(
    subject: model.Selector, namespace: str, name: str, audit: bool, source: str, of_nodes: bool = False
) -> model.Section:
    path = f"invalid:{namespace}/{name}" if namespace else f"invalid:{name}"
    both = frozenset(abi.Direction)
    # A deny of the highest rank: the policy might have denied what others allow.
    rules = tuple(model.Rule(d, abi.Verdict.DENY, None, None, path, source) for d in abi.Direction)
    return model.Section(path, subject, both, both, rules, audit, source, of_nodes)
