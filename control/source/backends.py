"""What only all files together can tell: whether a Service has backends, and whether anybody has the port it names."""

from collections.abc import Iterator

from control import model
from control.policy import field
from control.source import portnames, remarks


def nobody_meant(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each name that means nobody: of a Service, whose calls are refused, or in a policy."""
    for service in snapshot.services:
        if service.cluster_ips:
            yield from _of_service(service, [w for w in snapshot.workloads if _selects(service, w)])
    yield from portnames.unnamed_ports(snapshot)


def _selects(service: model.Service, workload: model.Workload) -> bool:
    return (
        bool(service.selector)
        and workload.namespace == service.namespace
        and all(workload.labels.get(key) == value for key, value in service.selector.items())
    )


def _of_service(service: model.Service, chosen: list[model.Workload]) -> Iterator[model.Problem]:
    if service.selector and service.ports and not chosen:
        labels = field.one_of([f"{key}={value}" for key, value in service.selector.items()])
        message = f"no Workload of namespace {service.namespace} has these labels, so calls are refused {labels}"
        yield _problem(service, "spec.selector", message)
        return  # with nobody selected there is nobody to be wrong about
    for index, port in enumerate(service.ports):
        if not isinstance(port.target_port, str) or any(_has(w, port) for w in chosen):
            continue
        name = field.quote(port.target_port)
        if service.selector:
            message = f"no selected Workload has a {port.protocol.name} port named {name}, so calls are refused "
            message += portnames.names_of((p.name, p.protocol) for w in chosen for p in w.ports)
        else:
            message = f"endpoints have no port named {name}, so calls are refused (a number)"
        yield _problem(service, f"spec.ports[{index}].targetPort", message)


def _has(workload: model.Workload, port: model.ServicePort) -> bool:
    return any(p.name == port.target_port and p.protocol == port.protocol for p in workload.ports)


def _problem(service: model.Service, path: str, message: str) -> model.Problem:
    return remarks.problem_at(service.source, path, message, f"Service {service.namespace}/{service.name}")
