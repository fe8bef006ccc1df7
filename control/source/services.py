"""Services, and the addresses behind those that select no pods: v1 Service and Endpoints, EndpointSlice."""

import dataclasses
from collections.abc import Iterable, Iterator

from control import model, places
from control.policy import field, parse, ports, selectors
from loader import abi

MAX_ADDRESSES = 64
SERVICE_OF_SLICE = "kubernetes.io/service-name"

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


def read_addresses(place: field.Field) -> tuple[str, ...]:
    """Read a list of IP addresses, each given once."""
    out: dict[str, None] = {}
    for item in place.items(MAX_ADDRESSES):
        ip = item.address()
        if ip is not None and ip in out:
            item.problem(f"{ip} is given twice")
        elif ip is not None:
            out[ip] = None
    if place.node.value == ():
        place.problem("must have at least one address")
    return tuple(out)


def read_service(document: field.Field) -> model.Service:
    entries = document.fields(("apiVersion", "kind", "metadata", "spec", "status"), required=("metadata", "spec"))
    namespace, name, labels = parse.read_metadata(document, entries, True)
    keys = (*SERVICE_KEYS, *SERVICE_NOISE)
    spec = (
        entries["spec"].fields(keys, elsewhere={"sessionAffinityConfig": "not supported yet"})
        if "spec" in entries
        else {}
    )
    undone = spec["type"].choice(SERVICE_TYPES) if "type" in spec else ""
    if undone:
        spec["type"].advise(undone)
    if "externalIPs" in spec and spec["externalIPs"].items():
        spec["externalIPs"].advise("calls to these addresses are not translated here: only the clusterIP is served")
    if "sessionAffinity" in spec and spec["sessionAffinity"].node.value != "None":
        spec["sessionAffinity"].problem("not supported yet (None)")
    places = [spec["clusterIP"]] if "clusterIP" in spec else []
    places += spec["clusterIPs"].items(MAX_ADDRESSES) if "clusterIPs" in spec else []
    # Headless is "None": its name stands for the pods themselves.
    ips = dict.fromkeys(place.address() for place in places if place.node.value not in ("None", ""))
    given = spec["ports"].items() if "ports" in spec else []
    served = tuple(p for p in (_read_port(place, bool(undone)) for place in given) if p)
    if len({(p.port, p.protocol) for p in served}) != len(served):
        spec["ports"].problem("the same port and protocol are given twice")
    endpoints = read_addresses(spec["endpoints"]) if "endpoints" in spec else ()
    selector = selectors.read_labels(spec["selector"]) if "selector" in spec else {}
    if endpoints and selector:
        spec["endpoints"].problem("cannot be combined with selector")
    found = tuple(ip for ip in ips if ip is not None)
    return model.Service(namespace, name, found, served, selector, endpoints, document.source, labels)


def _read_port(place: field.Field, told: bool) -> model.ServicePort | None:
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


def read_endpoints(document: field.Field) -> model.Endpoints:
    """Read the ready addresses of a v1 Endpoints."""
    entries = document.fields(("apiVersion", "kind", "metadata", "subsets"), required=("metadata",))
    namespace, name, _ = parse.read_metadata(document, entries, True)
    ips: list[field.Field] = []
    found: list[model.ContainerPort] = []
    for subset in entries["subsets"].items() if "subsets" in entries else ():
        parts = subset.fields(("addresses", "ports"))
        for item in parts["addresses"].items() if "addresses" in parts else ():
            ips += filter(None, [item.fields(("ip",), required=("ip",)).get("ip")])
        found += _target_ports(parts.get("ports"))
    return model.Endpoints(namespace, name, name, _distinct(ips), tuple(found), source=document.source)


def read_slice(document: field.Field) -> model.Endpoints | None:
    """Read the ready addresses of an EndpointSlice; None for one of names, or of no service."""
    entries = document.fields(
        ("apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"), required=("metadata", "addressType")
    )
    namespace, name, labels = parse.read_metadata(document, entries, True)
    families = {"IPv4": True, "IPv6": True, "FQDN": False}
    has_addresses = entries["addressType"].choice(families) if "addressType" in entries else None
    ips: list[field.Field] = []
    for item in entries["endpoints"].items() if "endpoints" in entries and has_addresses else ():
        parts = item.fields(("addresses", "conditions"))
        conditions = parts["conditions"].fields(("ready",)) if "conditions" in parts else {}
        ready = conditions["ready"].boolean() if "ready" in conditions else True  # so it is where nothing is said
        if ready and "addresses" in parts:
            ips += parts["addresses"].items()
    found = tuple(_target_ports(entries.get("ports")))
    service = labels.get(SERVICE_OF_SLICE, "")
    if not has_addresses or not service:
        return None
    return model.Endpoints(namespace, name, service, _distinct(ips), found, "EndpointSlice", document.source)


def _distinct(places: Iterable[field.Field]) -> tuple[str, ...]:
    # Several subsets may list one address, each with ports of its own.
    return tuple(dict.fromkeys(ip for ip in (place.address() for place in places) if ip is not None))


def _target_ports(place: field.Field | None) -> Iterator[model.ContainerPort]:
    for item in place.items() if place is not None else ():
        parts = item.fields(("name", "port", "protocol"))
        port = parts["port"].integer(1, 65535) if "port" in parts else None  # without one it means all ports
        name = parts["name"].text() if "name" in parts else ""
        proto = parts["protocol"].choice(ports.KUBERNETES_PROTOCOLS) if "protocol" in parts else abi.Proto.TCP
        if port is not None and name is not None and proto is not None:
            yield model.ContainerPort(name, port, proto)


def with_endpoints(services: Iterable[model.Service], endpoints: Iterable[model.Endpoints]) -> Iterator[model.Service]:
    """Yield the services; those that select nobody with what is listed for them: addresses, port numbers.

    The service of the Kubernetes API is in every cluster: where files list its addresses alone, it is theirs.
    """
    listed: dict[tuple[str, str], list[model.Endpoints]] = {}
    for each in endpoints:
        listed.setdefault((each.namespace, each.service), []).append(each)
    given = list(services)
    api = listed.get(places.API_SERVICE, [])
    if api and not any((service.namespace, service.name) == places.API_SERVICE for service in given):
        given.append(model.Service(*places.API_SERVICE, source=api[0].source))
        given.sort(key=lambda service: (service.namespace, service.name))
    for service in given:
        found = listed.get((service.namespace, service.name), [])
        if service.selector or not found:  # of a selector's addresses the pods themselves tell
            yield service
            continue
        ips = dict.fromkeys((*service.endpoints, *(ip for each in found for ip in each.ips)))
        numbers = {(port.name, port.protocol): port.port for each in reversed(found) for port in reversed(each.ports)}
        served = tuple(
            dataclasses.replace(port, target_port=numbers.get((port.name, port.protocol), port.target_port))
            for port in service.ports
        )
        yield dataclasses.replace(service, endpoints=tuple(ips), ports=served)
