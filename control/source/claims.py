"""Names and addresses that only one object may have, and which object has them."""

from collections.abc import Iterable, Iterator

from control import model
from control.policy import field

Claim = tuple[str, str]  # what it is called in a message, the key
Taken = dict[Claim, model.Object]


def of(obj: model.Object) -> Iterator[Claim]:
    """Yield what no other object may have too."""
    match obj:
        case model.Workload():
            yield "Workload" if obj.kind == "Pod" else obj.kind, str(obj)
            for ip in obj.ips:
                yield "address", ip
            where = f" of node {obj.node}" if obj.node else ""
            if obj.interface:
                yield "interface", obj.interface + where
            if obj.netns:
                yield "network namespace", obj.netns + where
        case model.Namespace():
            yield "Namespace", obj.name
        case model.Service():
            yield "Service", f"{obj.namespace}/{obj.name}"
            for ip in obj.cluster_ips:
                yield "address", ip
        case model.Endpoints():
            yield obj.kind, f"{obj.namespace}/{obj.name}"
        case model.Node():
            yield "Node", obj.name
            for ip in obj.ips:
                yield "address", ip
        case model.CidrGroup():
            yield "CiliumCIDRGroup", obj.name
        case model.Policy():
            yield obj.kind, f"{obj.namespace}/{obj.name}" if obj.namespace else obj.name


def report_twice(given: Iterable[model.Object | None], report: field.Report) -> None:
    """Report what two objects of one file claim."""
    seen: Taken = {}
    for obj in given:
        for claim in of(obj) if obj is not None else ():
            if claim in seen and obj is not None:
                line = int(obj.source.rpartition(":")[2]) if ":" in obj.source else 0
                report.add("", f"{claim[0]} {claim[1]} is given twice ({seen[claim].source}, {obj.source})", line)
            elif obj is not None:
                seen[claim] = obj


def take(given: Iterable[model.Object], taken: Taken) -> list[model.Object]:
    """Return those whose names are all free, in order; they are taken then."""
    out = []
    for obj in given:
        claims = list(of(obj))
        if not any(claim in taken for claim in claims):
            taken.update(dict.fromkeys(claims, obj))
            out.append(obj)
    return out


def clashes(given: Iterable[model.Object], taken: Taken) -> list[str]:
    """Return a message for each name that somebody else has."""
    return [
        f"{claim[0]} {claim[1]} is already declared in {taken[claim].source}"
        for obj in given
        for claim in of(obj)
        if claim in taken
    ]
