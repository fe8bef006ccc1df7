"""sockmesh.io/v1 Workload: a pod as the agent needs to know it where no Kubernetes tells."""

import re
from collections.abc import Collection

from control import model
from control.policy import field, parse, ports
from control.source import services
from loader import abi

_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_PATH = re.compile(r".{1,4095}")
_NODE_RULE = parse.DNS_NAME_RULE

# The fields of its spec; docs/reference.md explains them.
WORKLOAD_KEYS = ("ips", "netns", "interface", "cgroup", "serviceAccount", "acceleration", "ports", "node")
WORKLOAD_PORT_KEYS = ("name", "port", "protocol")


def check_labels(document: field.Field, labels: Collection[str], path: str = "metadata.labels") -> None:
    """Report labels that no pod may give itself."""
    for key in labels:
        if key == model.NAMESPACE_KEY or key.startswith("io.cilium.k8s."):
            # With such a label it could pass for one of another namespace or account.
            document.problem(f"{path}: {key} is set by sockmesh, not by a workload")


def read_workload(document: field.Field) -> model.Workload:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec"), required=("metadata", "spec"))
    namespace, name, labels = parse.read_metadata(document, entries, True)
    check_labels(document, labels)
    spec = entries["spec"].fields(WORKLOAD_KEYS, required=("ips",)) if "spec" in entries else {}
    missing = [key for key in ("netns", "interface") if key not in spec]
    if len(missing) == 1 or (missing and "node" not in spec):
        entries.get("spec", document).advise(
            f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} missing: no policy is enforced at this pod, "
            "its addresses only have an identity (give both, or node if it runs elsewhere)"
        )
    account = (
        spec["serviceAccount"].text(parse.DNS_NAME, parse.DNS_NAME_RULE) if "serviceAccount" in spec else "default"
    )
    return model.Workload(
        namespace=namespace,
        name=name,
        labels=labels,
        service_account=account or "",
        ips=services.read_addresses(spec["ips"]) if "ips" in spec else (),
        netns=_path(spec, "netns"),
        interface=(spec["interface"].text(_INTERFACE, "an interface name") or "") if "interface" in spec else "",
        cgroup=_path(spec, "cgroup"),
        accelerate=_read_switch(spec["acceleration"]) if "acceleration" in spec else True,
        ports=tuple(p for p in map(_read_port, spec["ports"].items()) if p) if "ports" in spec else (),
        node=(spec["node"].text(parse.DNS_NAME, _NODE_RULE) or "") if "node" in spec else "",
        source=document.source,
    )


def _path(spec: dict[str, field.Field], key: str) -> str:
    return (spec[key].text(_PATH, "a path or name") or "") if key in spec else ""


def _read_switch(place: field.Field) -> bool:
    if isinstance(place.node.value, bool):
        return place.node.value
    return place.choice({"on": True, "off": False}) is not False


def _read_port(place: field.Field) -> model.ContainerPort | None:
    parts = place.fields(WORKLOAD_PORT_KEYS, required=("name", "port"))
    name = ports.port_name(parts["name"]) if "name" in parts else None
    port = parts["port"].integer(1, 65535) if "port" in parts else None
    proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
    return model.ContainerPort(name, port, proto) if name and port and proto else None
