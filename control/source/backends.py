"""What only all files together can tell of a Service: whether anybody has the port that it names."""

from collections.abc import Iterator

from control import model
from control.policy import field

MOST_NAMES = 10  # in a message


def unnamed_ports(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each `targetPort` that is a name which no backend has: calls to it are refused."""
    for service in snapshot.services:
        named = [(i, port) for i, port in enumerate(service.ports) if isinstance(port.target_port, str)]
        if not named or not service.cluster_ips:
            continue
        chosen = [w for w in snapshot.workloads if _selects(service, w)]
        for index, port in named:
            if service.selector and (not chosen or any(_has(w, port) for w in chosen)):
                continue  # with nobody selected there is nobody to be wrong about
            yield _problem(service, index, port, chosen)


def _selects(service: model.Service, workload: model.Workload) -> bool:
    return (
        bool(service.selector)
        and workload.namespace == service.namespace
        and all(workload.labels.get(key) == value for key, value in service.selector.items())
    )


def _has(workload: model.Workload, port: model.ServicePort) -> bool:
    return any(p.name == port.target_port and p.protocol == port.protocol for p in workload.ports)


def _problem(
    service: model.Service, index: int, port: model.ServicePort, chosen: list[model.Workload]
) -> model.Problem:
    name = field.quote(port.target_port)
    if service.selector:
        names = sorted({f"{p.name}/{p.protocol.name}" for w in chosen for p in w.ports})
        there = field.one_of([*names[:MOST_NAMES], *(["..."] if len(names) > MOST_NAMES else [])])
        message = f"no selected Workload has a {port.protocol.name} port named {name}, so calls are refused "
        message += f"{there if names else '(none of them names a port)'}"
    else:
        message = f"endpoints have no port named {name}, so calls are refused (a number)"
    file, _, line = service.source.rpartition(":")
    path = f"Service {service.namespace}/{service.name} spec.ports[{index}].targetPort"
    return model.Problem(file or line, path, message, int(line) if file else 0)
