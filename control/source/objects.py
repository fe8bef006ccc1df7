"""Documents to objects: which kind is read by whom, and how much of it may be read.

Policies are read by control.policy.parse, what Kubernetes makes of pods by control.source.kubernetes.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from control import model
from control.policy import cidrgroup, field, parse
from control.source import cluster, kinds, services, workload

# Values of one file: to read them takes half a second, and what is wrong with each of them a second.
MAX_VALUES = 120_000
OF_DOCUMENT = 4  # what a document takes besides, however little is in it
MAX_LISTS = 4  # one inside the other

# The only fields that are read of an object of Kubernetes; the API server has looked at the rest.
METADATA = {"name": None, "namespace": None, "labels": None}
OUTLINE = {"apiVersion": None, "kind": None, "metadata": METADATA}
_PORTS = [{"name": None, "port": None, "protocol": None}]
_NODE = {**OUTLINE, "status": {"addresses": [{"type": None, "address": None}]}}
_ENDPOINTS = {**OUTLINE, "subsets": [{"addresses": [{"ip": None}], "ports": _PORTS}]}
_SLICE = {
    **OUTLINE,
    "addressType": None,
    "endpoints": [{"addresses": None, "conditions": {"ready": None}}],
    "ports": _PORTS,
}

RENDER = " (part of a chart? render it first: helm template ... | sockmesh policy ... -f -)"
KUSTOMIZE = "render it first: kustomize build DIR | sockmesh policy ... -f -"
CHART = "Chart.yaml"
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml")
_OF_OBJECT = ("apiversion", "kind", "metadata", "spec", "specs", "items")

Kind = tuple[str, str]  # apiVersion and kind

WITHOUT_NAMESPACE = {"Namespace", "Node", *parse.CLUSTER_WIDE, *(kind for _, kind in cidrgroup.KINDS)}


@dataclasses.dataclass(frozen=True)
class Reader:
    """Who reads a kind. `shape`: the only fields that are looked at, None for a kind that is read whole."""

    read: Callable[[field.Field], model.Object | None]
    shape: Any = None
    is_known: bool = False  # no policy hangs on what cannot be read of it


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An object that nobody reads. `has_pods`: it makes pods, as far as one can see."""

    kind: Kind
    source: str
    has_pods: bool = False
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """One document's object. `stand_in`: the deny that takes a policy's place while its file is broken. `is_known`: no
    policy hangs on what cannot be read of it. `skipped`: the kind and its place, where it means nothing here.
    """

    obj: model.Object | None
    stand_in: model.Policy | None = None
    is_known: bool = False
    skipped: Skipped | None = None


READERS: Mapping[Kind, Reader] = {
    ("sockmesh.io/v1", "Workload"): Reader(workload.read_workload, is_known=True),
    ("v1", "Namespace"): Reader(cluster.read_namespace),
    ("v1", "Service"): Reader(services.read_service, is_known=True),
    ("v1", "Node"): Reader(cluster.read_node, _NODE),
    ("v1", "Endpoints"): Reader(services.read_endpoints, _ENDPOINTS),
    ("discovery.k8s.io/v1", "EndpointSlice"): Reader(services.read_slice, _SLICE),
    **{kind: Reader(cidrgroup.read_cidr_group) for kind in cidrgroup.KINDS},
}


def read_documents(
    nodes: list[field.Node],
    report: field.Report,
    readers: Mapping[Kind, Reader] = READERS,
    most: int = MAX_VALUES,
    skips: bool = False,
    namespace: str = "",
) -> list[Parsed]:
    """Read all documents of a file, those inside a List too; report collects what is wrong.

    `most` values are read at most. `skips`: a kind that means nothing here is left out, and is wrong otherwise.
    `namespace`, if given, is that of documents that name none.
    """
    out: list[Parsed] = []
    found: list[tuple[field.Field, Kind | None]] = []
    left = most
    for index, node in enumerate(nodes):
        prefix = f"documents[{index}]." if len(nodes) > 1 else ""
        before = report.count
        documents = _flatten(field.Field(node, "", report, prefix), most // OF_DOCUMENT)
        if report.count > before:
            out.append(Parsed(None))  # a List that cannot be read may hold anything
        for document in documents:
            kind = kind_of(document)
            reader = readers.get(kind) if kind is not None else None
            if reader is not None and reader.shape is not None:
                document.node = _pick(document.node, reader.shape)
            if namespace and kind is not None and kind[1] not in WITHOUT_NAMESPACE:
                document.node = _in_namespace(document.node, namespace)
            left -= OF_DOCUMENT
            if reader is not None or kind in parse.KINDS:
                left -= _weight(document.node, left)
            if left < 0:
                document.problem(f"more values than are read of one file (at most {most}: split it)")
                return [Parsed(None)]
            found.append((document, kind))
    return out + [_read_document(document, kind, readers, skips) for document, kind in found]


def _flatten(document: field.Field, most: int, above: int = 0) -> list[field.Field]:
    """Return the objects of a List and of Lists in it, each with paths of its own, or the document itself."""
    value = document.node.value
    kind = value["kind"].value if isinstance(value, dict) and "kind" in value else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value, dict)):
        return [document]
    if above == MAX_LISTS:
        document.problem(f"more Lists one inside the other than are read (at most {MAX_LISTS})")
        return []
    entries = document.fields(("apiVersion", "kind", "metadata", "items"), required=("items",))
    # Items of a PodList do not say that they are pods.
    of_items = {"kind": field.Node(kind.removesuffix("List")), "apiVersion": value.get("apiVersion", field.Node(None))}
    out: list[field.Field] = []
    for index, item in enumerate(entries["items"].items(most) if "items" in entries else ()):
        node, given = item.node, item.node.value
        if kind != "List" and isinstance(given, dict) and not ("kind" in given and "apiVersion" in given):
            node = field.Node({**of_items, **given}, node.line)
        inner = field.Field(node, "", document.report, f"{document.prefix}items[{index}].")
        out += _flatten(inner, most, above + 1)
    return out


def _pick(node: field.Node, shape: Any) -> field.Node:
    """Return what shape has of a node: the same lists, with mappings of fewer keys. None takes everything."""
    value = node.value
    if isinstance(shape, dict) and isinstance(value, dict):
        return field.Node({key: _pick(value[key], shape[key]) for key in shape if key in value}, node.line)
    if isinstance(shape, list) and isinstance(value, tuple):
        return field.Node(tuple([_pick(item, shape[0]) for item in value]), node.line)
    return node


def _in_namespace(node: field.Node, namespace: str) -> field.Node:
    """Return an object as it is with a namespace, if it names none."""
    metadata = node.value.get("metadata") if isinstance(node.value, dict) else None
    if metadata is None or not isinstance(metadata.value, dict) or not isinstance(node.value, dict):
        return node
    given = metadata.value.get("namespace")
    if given is not None and given.value is not None:
        return node
    inner = field.Node({**metadata.value, "namespace": field.Node(namespace, metadata.line)}, metadata.line)
    return field.Node({**node.value, "metadata": inner}, node.line)


def _weight(node: field.Node, most: int) -> int:
    """Return how many values a node holds; it may stop to count beyond `most`."""
    count, todo = 0, [node]
    while todo and count <= most:
        value = todo.pop().value
        if isinstance(value, dict):
            count += len(value)
            todo += value.values()
        elif isinstance(value, tuple):
            count += len(value)
            todo += value
    return count


def kind_of(document: field.Field) -> Kind | None:
    value = document.node.value
    pair = [value[key].value for key in ("apiVersion", "kind") if key in value] if isinstance(value, dict) else []
    return (pair[0], pair[1]) if len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str) else None


def _read_document(document: field.Field, kind: Kind | None, readers: Mapping[Kind, Reader], skips: bool) -> Parsed:
    if kind is None and skips and is_no_object(document):
        name = os.path.basename(document.report.file)
        remedy = f" ({KUSTOMIZE})" if name in KUSTOMIZATIONS else RENDER
        lacks = "no kind" if name == CHART else "neither apiVersion nor kind"
        document.advise(f"has {lacks}, so it is passed over{remedy}")
        return Parsed(None, is_known=True)
    if kind is None:
        _tell_missing_kind(document, RENDER if skips else "")
        return Parsed(None)
    if kind in parse.KINDS:
        policy = parse.parse_policy(document, *kind)
        if skips:
            return Parsed(policy, is_known=True)  # nothing is in force that a deny would have to take the place of
        stand_in = parse.stand_in(document, kind[1]) if policy is None else parse.deny(policy)
        return Parsed(policy, stand_in, is_known=stand_in is not None)
    reader = readers.get(kind)
    if reader is None:
        wrong = kinds.wrong(kind, {*parse.KINDS, *readers}, skips)
        if wrong:
            document.problem(wrong)
        return Parsed(None, skipped=None if wrong else _skipped(kind, document))
    before = document.report.count
    obj = reader.read(document)
    is_good = document.report.count == before
    return Parsed(obj if is_good else None, is_known=is_good or reader.is_known)


def _skipped(kind: Kind, document: field.Field) -> Skipped:
    return Skipped(kind, document.source, _has_pods(document.node), document.prefix.rstrip("."))


def _has_pods(node: field.Node) -> bool:
    """Tell whether an object has a template of pods where those that are read have it."""
    at: field.Node | None = node
    for key in ("spec", "template", "spec", "containers"):
        at = at.value.get(key) if at is not None and isinstance(at.value, dict) else None
    return at is not None and isinstance(at.value, tuple)


def is_no_object(document: field.Field) -> bool:
    """Tell whether a document looks like no object of Kubernetes at all, not even one with a key mistyped."""
    value = document.node.value
    # That of a chart says which format the chart has.
    told = _OF_OBJECT[1:] if os.path.basename(document.report.file) == CHART else _OF_OBJECT
    is_item = "items[" in document.prefix
    return isinstance(value, dict) and not is_item and not any(key.lower() in told for key in value)


def _tell_missing_kind(document: field.Field, remedy: str) -> None:
    before = document.report.count
    entries = document.mapping() or {}
    for key in ("apiVersion", "kind"):
        if key in entries:
            entries[key].text()
    if document.report.count == before:
        document.problem(f"apiVersion and kind are required{remedy}")
