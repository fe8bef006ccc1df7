"""Documents to objects: Workload, Namespace and Service here, policies through control.policy.parse."""

import dataclasses
import re
from collections.abc import Callable, Iterator

from control import model
from control.policy import field, parse, ports, selectors
from loader import abi

MAX_IPS = 64
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_PATH = re.compile(r".{1,4095}")
_NODE_RULE = parse.DNS_NAME_RULE

# The fields of each kind's spec; docs/reference.md explains them.
WORKLOAD_KEYS = ("ips", "netns", "interface", "cgroup", "serviceAccount", "acceleration", "ports", "node")
WORKLOAD_PORT_KEYS = ("name", "port", "protocol")
SERVICE_KEYS = ("clusterIP", "clusterIPs", "ports", "selector", "endpoints", "type", "externalIPs", "sessionAffinity")
SERVICE_PORT_KEYS = ("name", "port", "targetPort", "protocol", "nodePort")
# What a Service may say besides that changes nothing here.
SERVICE_NOISE = (
    "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "externalTrafficPolicy", "loadBalancerIP",
    "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "healthCheckNodePort",
    "publishNotReadyAddresses", "externalName", "trafficDistribution",
)  # fmt: skip
# What a Service's type asks for that is not done here.
SERVICE_TYPES = {
    "ClusterIP": "",
    "NodePort": "node ports are not opened here: only the clusterIP is served",
    "LoadBalancer": "neither a load balancer nor node ports are set up here: only the clusterIP is served",
    "ExternalName": "an alias in DNS: nothing is translated here, and policy sees the addresses that the name has",
}


@dataclasses.dataclass(frozen=True)
class Parsed:
    """One document's object. `stand_in`: the deny that takes a policy's place while its file is broken. `is_known`: no
    policy hangs on what cannot be read of it."""

    obj: model.Object | None
    stand_in: model.Policy | None = None
    is_known: bool = False


def read_documents(nodes: list[field.Node], report: field.Report) -> list[Parsed]:
    """Read all documents of a file, those inside a List too; report collects what is wrong."""
    out = []
    for index, node in enumerate(nodes):
        prefix = f"documents[{index}]." if len(nodes) > 1 else ""
        before = report.count
        documents = list(_flatten(field.Field(node, "", report, prefix)))
        if report.count > before:
            out.append(Parsed(None))  # a List that cannot be read may hold anything
        out += map(_read_document, documents)
    return out


def _flatten(document: field.Field) -> Iterator[field.Field]:
    """Yield the objects of a List, each with paths of its own, or the document itself."""
    value = document.node.value
    kind = value["kind"].value if isinstance(value, dict) and "kind" in value else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value, dict)):
        yield document
        return
    entries = document.fields(("apiVersion", "kind", "metadata", "items"), required=("items",))
    for index, item in enumerate(entries["items"].items() if "items" in entries else ()):
        yield field.Field(item.node, "", document.report, f"{document.prefix}items[{index}].")


def _read_document(document: field.Field) -> Parsed:
    before = document.report.count
    entries = document.mapping() or {}
    api_version = entries["apiVersion"].text() if "apiVersion" in entries else None
    kind = entries["kind"].text() if "kind" in entries else None
    if api_version is None or kind is None:
        if isinstance(document.node.value, dict) and document.report.count == before:
            document.problem("apiVersion and kind are required")
        return Parsed(None)
    if (api_version, kind) in parse.KINDS:
        policy = parse.parse_policy(document, api_version, kind)
        stand_in = parse.stand_in(document, kind)
        return Parsed(policy, stand_in, is_known=stand_in is not None)
    readers: dict[tuple[str, str], Callable[[field.Field], model.Object]] = {
        ("sockmesh.io/v1", "Workload"): _read_workload,
        ("v1", "Namespace"): _read_namespace,
        ("v1", "Service"): _read_service,
    }
    reader = readers.get((api_version, kind))
    if reader is None:
        known = {name: version for version, name in (*parse.KINDS, *readers)}
        if kind in known:
            document.problem(f"apiVersion: unknown {field.quote(api_version)} of kind {kind} ({known[kind]})")
        else:
            document.problem(f"unknown kind {field.quote(f'{api_version} {kind}')} {field.one_of(sorted(known))}")
        return Parsed(None)
    obj = reader(document)
    is_good = document.report.count == before
    return Parsed(obj if is_good else None, is_known=is_good or kind in ("Workload", "Service"))


def _read_workload(document: field.Field) -> model.Workload:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec"), required=("metadata", "spec"))
    namespace, name, labels = parse.read_metadata(document, entries, True)
    for key in labels:
        if key == model.NAMESPACE_KEY or key.startswith("io.cilium.k8s."):
            # A pod that could give itself such a label could pass for one of another namespace or account.
            document.problem(f"metadata.labels: {key} is set by sockmesh, not by a workload")
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
        ips=_addresses(spec["ips"]) if "ips" in spec else (),
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


def _addresses(place: field.Field) -> tuple[str, ...]:
    out: list[str] = []
    for item in place.items(MAX_IPS):
        ip = item.address()
        if ip is not None and ip in out:
            item.problem(f"{ip} is given twice")
        elif ip is not None:
            out.append(ip)
    if not out and place.node.value == ():
        place.problem("must have at least one address")
    return tuple(out)


def _read_port(place: field.Field) -> model.ContainerPort | None:
    parts = place.fields(WORKLOAD_PORT_KEYS, required=("name", "port"))
    name = ports.port_name(parts["name"]) if "name" in parts else None
    port = parts["port"].integer(1, 65535) if "port" in parts else None
    proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
    return model.ContainerPort(name, port, proto) if name and port and proto else None


def _read_namespace(document: field.Field) -> model.Namespace:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec", "status"), required=("metadata",))
    _, name, labels = parse.read_metadata(document, entries, False)
    if name and not parse.DNS_LABEL.fullmatch(name):
        document.problem(f"metadata.name: invalid {field.quote(name)} ({parse.DNS_LABEL_RULE})")
    if labels.get(model.NAMESPACE_NAME_LABEL, name) != name:
        document.problem(f"metadata.labels: {model.NAMESPACE_NAME_LABEL} is always the namespace's own name")
    return model.Namespace(name, labels, document.source)


def _read_service(document: field.Field) -> model.Service:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec", "status"), required=("metadata", "spec"))
    namespace, name, _ = parse.read_metadata(document, entries, True)
    keys = (*SERVICE_KEYS, *SERVICE_NOISE)
    spec = entries["spec"].fields(keys, later=("sessionAffinityConfig",)) if "spec" in entries else {}
    undone = spec["type"].choice(SERVICE_TYPES) if "type" in spec else ""
    if undone:
        spec["type"].advise(undone)
    if "externalIPs" in spec and spec["externalIPs"].items():
        spec["externalIPs"].advise("calls to these addresses are not translated here: only the clusterIP is served")
    if "sessionAffinity" in spec and spec["sessionAffinity"].node.value != "None":
        spec["sessionAffinity"].problem("not supported yet (None)")
    ips: list[str] = []
    places = [spec["clusterIP"]] if "clusterIP" in spec else []
    places += spec["clusterIPs"].items() if "clusterIPs" in spec else []
    for place in places:
        if place.node.value in ("None", ""):  # headless: its name stands for the pods themselves
            continue
        ip = place.address()
        if ip is not None and ip not in ips:
            ips.append(ip)
    given = spec["ports"].items() if "ports" in spec else []
    served = tuple(p for p in (_read_service_port(place, bool(undone)) for place in given) if p)
    if len({(p.port, p.protocol) for p in served}) != len(served):
        spec["ports"].problem("the same port and protocol are given twice")
    endpoints = _addresses(spec["endpoints"]) if "endpoints" in spec else ()
    selector = selectors.read_labels(spec["selector"]) if "selector" in spec else {}
    if endpoints and selector:
        spec["endpoints"].problem("cannot be combined with selector")
    return model.Service(namespace, name, tuple(ips), served, selector, endpoints, document.source)


def _read_service_port(place: field.Field, told: bool) -> model.ServicePort | None:
    """Read one port. `told`: that node ports are not opened has been said already."""
    parts = place.fields((*SERVICE_PORT_KEYS, "appProtocol"), required=("port",))
    port = parts["port"].integer(1, 65535) if "port" in parts else None
    name = parts["name"].text(parse.DNS_LABEL, parse.DNS_LABEL_RULE) if "name" in parts else ""
    target = ports.number_or_name(parts["targetPort"]) if "targetPort" in parts else 0
    proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
    if "nodePort" in parts and not told:
        parts["nodePort"].advise(SERVICE_TYPES["NodePort"])
    if port is None or name is None or target is None or proto is None:
        return None
    return model.ServicePort(port, name, target, proto)
