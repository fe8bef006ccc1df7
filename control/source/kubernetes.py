"""Pods, and the pod templates of what makes pods, to workloads.

The API server has looked at the hundreds of fields that mean nothing here, so only those that do are looked at.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from control import model
from control.policy import field, parse, ports, selectors
from control.source import objects, owners, services, workload
from loader import abi

FINISHED = ("Succeeded", "Failed")  # phases of a pod that never comes back

_CONTAINER = {"ports": [{"name": None, "containerPort": None, "protocol": None}]}
_POD_SPEC = {
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER | {"restartPolicy": None}],
    "hostNetwork": None,
    "nodeName": None,
    "serviceAccountName": None,
    "serviceAccount": None,
}
_METADATA = objects.METADATA | {
    "generateName": None,
    "ownerReferences": [dict.fromkeys(("kind", "name", "controller"))],
}
_POD = {
    **objects.OUTLINE,
    "metadata": _METADATA,
    "spec": _POD_SPEC,
    "status": {"phase": None, "podIP": None, "podIPs": [{"ip": None}]},
}
_TEMPLATE = {"metadata": {"labels": None}, "spec": _POD_SPEC}


def _read_pod(document: field.Field) -> model.Workload | None:
    """Read a pod; None for one that is finished: its address may be another's by now."""
    entries = document.fields(_POD, required=("metadata", "spec"))
    status = entries["status"].fields(("phase", "podIP", "podIPs")) if "status" in entries else {}
    if "phase" in status and status["phase"].text() in FINISHED:
        return None
    found = _read(document, entries, entries.get("metadata"), entries.get("spec"), "Pod")
    if found.host_network:
        return found  # it has its node's addresses
    places = [place for place in (status.get("podIP"),) if place is not None and place.node.value != ""]
    for item in status["podIPs"].items(services.MAX_ADDRESSES) if "podIPs" in status else ():
        places += filter(None, [item.fields(("ip",), required=("ip",)).get("ip")])
    ips = dict.fromkeys(ip for ip in (place.address() for place in places) if ip is not None)
    return dataclasses.replace(found, ips=tuple(ips))


def _template_reader(kind: str, *path: str) -> objects.Reader:
    """Return who reads the pod template at a path of `spec`."""
    shape: Any = _TEMPLATE
    for key in reversed(path):
        shape = {key: shape}

    def read(document: field.Field) -> model.Workload:
        entries = document.fields(("apiVersion", "kind", "metadata", "spec"), required=("metadata", "spec"))
        place = entries.get("spec")
        for key in path:
            place = place.fields((key,), required=(key,)).get(key) if place is not None else None
        template = place.fields(("metadata", "spec"), required=("spec",)) if place is not None else {}
        return _read(document, entries, template.get("metadata"), template.get("spec"), kind)

    return objects.Reader(read, {**objects.OUTLINE, "metadata": _METADATA, "spec": shape})


def _read(
    document: field.Field,
    entries: dict[str, field.Field],
    of_pod: field.Field | None,
    spec: field.Field | None,
    kind: str,
) -> owners.Owned:
    """Read what has a name in the document, and labels and a `spec` as a pod there."""
    namespace, name, _ = parse.read_metadata(document, _named(entries), True)
    labels: dict[str, str] = {}
    if of_pod is not None and (place := (of_pod.mapping() or {}).get("labels")) is not None:
        labels = selectors.read_labels(place)
        workload.check_labels(document, labels, place.path)
    parts = spec.fields(_POD_SPEC) if spec is not None else {}
    account = parts.get("serviceAccountName", parts.get("serviceAccount"))
    return owners.Owned(
        namespace=namespace,
        name=name,
        labels=labels,
        service_account=_text(account, parse.DNS_NAME_RULE) or "default",
        ports=tuple(dict.fromkeys(_ports(parts))),
        node=_text(parts.get("nodeName"), parse.DNS_NAME_RULE),
        source=document.source,
        kind=kind,
        host_network=parts["hostNetwork"].boolean() is True if "hostNetwork" in parts else False,
        owner=_owner(entries.get("metadata")),
        is_generated=not _has_name(entries.get("metadata")),
    )


def _named(entries: dict[str, field.Field]) -> dict[str, field.Field]:
    """Return the metadata with what says the object's name, of which generateName is the beginning."""
    place = entries.get("metadata")
    given = place.node.value if place is not None else None
    if place is None or not isinstance(given, dict):
        return entries
    kept: dict[str, field.Node] = {key: given[key] for key in ("name", "namespace") if key in given}
    begun = given.get("generateName")
    if "name" not in kept and begun is not None and isinstance(begun.value, str):
        kept["name"] = field.Node(begun.value.rstrip("-."), begun.line)
    return {"metadata": field.Field(field.Node(kept, place.node.line), place.path, place.report, place.prefix)}


def _has_name(metadata: field.Field | None) -> bool:
    given = metadata.node.value if metadata is not None else None
    return isinstance(given, dict) and "name" in given


def _text(place: field.Field | None, rule: str) -> str:
    if place is None or place.node.value == "":
        return ""
    return place.text(parse.DNS_NAME, rule) or ""


def _ports(spec: dict[str, field.Field]) -> Iterator[model.ContainerPort]:
    """Yield the ports with names of all containers that live as long as the pod."""
    for item in spec["containers"].items() if "containers" in spec else ():
        yield from _ports_of(item.fields(_CONTAINER))
    for item in spec["initContainers"].items() if "initContainers" in spec else ():
        parts = item.fields((*_CONTAINER, "restartPolicy"))
        if "restartPolicy" in parts and parts["restartPolicy"].text() == "Always":
            yield from _ports_of(parts)


def _ports_of(container: dict[str, field.Field]) -> Iterator[model.ContainerPort]:
    for item in container["ports"].items() if "ports" in container else ():
        parts = item.fields(("name", "containerPort", "protocol"), required=("containerPort",))
        number = parts["containerPort"].integer(1, 65535) if "containerPort" in parts else None
        proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
        has_name = "name" in parts and parts["name"].node.value != ""
        name = ports.port_name(parts["name"]) if has_name else None
        if name is not None and number is not None and proto is not None:
            yield model.ContainerPort(name, number, proto)


def _owner(metadata: field.Field | None) -> tuple[str, str]:
    """Return kind and name of the controller that made the object."""
    parts = metadata.mapping() or {} if metadata is not None else {}
    for item in parts["ownerReferences"].items() if "ownerReferences" in parts else ():
        reference = item.fields(("kind", "name", "controller"), required=("kind", "name"))
        if "controller" in reference and reference["controller"].boolean() and len(reference) == 3:
            return reference["kind"].text() or "", reference["name"].text() or ""
    return "", ""


READERS = {
    ("v1", "Pod"): objects.Reader(_read_pod, _POD),
    ("v1", "ReplicationController"): _template_reader("ReplicationController", "template"),
    ("apps/v1", "Deployment"): _template_reader("Deployment", "template"),
    ("apps/v1", "ReplicaSet"): _template_reader("ReplicaSet", "template"),
    ("apps/v1", "StatefulSet"): _template_reader("StatefulSet", "template"),
    ("apps/v1", "DaemonSet"): _template_reader("DaemonSet", "template"),
    ("batch/v1", "Job"): _template_reader("Job", "template"),
    ("batch/v1", "CronJob"): _template_reader("CronJob", "jobTemplate", "spec", "template"),
}
