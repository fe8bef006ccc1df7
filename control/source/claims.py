"""What no two objects may have both: names, addresses, interfaces.

A file that claims what another has is refused. Two that share a network namespace or a cgroup can both be under policy,
and would not be if one of them were refused: agent/workloads.py leaves the sockets there to one of them, and tells.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

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
            if obj.interface:
                yield "interface", f"{obj.interface} of node {obj.node}" if obj.node else obj.interface
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
        case model.Policy() if not obj.invalid:  # what closes beside a policy of its name closes all the same
            yield obj.kind, f"{obj.namespace}/{obj.name}" if obj.namespace else obj.name


def _line(obj: model.Object) -> int:
    return int(obj.source.rpartition(":")[2]) if ":" in obj.source else 0


def _at_odds(
    obj: model.Object, taken: Mapping[Claim, model.Object], own: Collection[Claim] = ()
) -> Iterator[tuple[Claim, model.Object]]:
    """Yield what another object has already, and which. A copy of an object is told of once, by its name: that its
    addresses are the same as well is no second mistake.
    """
    twin: model.Object | None = None
    for number, claim in enumerate(of(obj)):
        other = taken.get(claim) if claim not in own else None
        if other is None or other is twin:
            continue
        if number == 0:  # its name
            twin = other
        yield claim, other


def report_twice(given: Iterable[model.Object | None], report: field.Report) -> None:
    """Report what two objects of one file claim."""
    seen: Taken = {}
    for obj in (each for each in given if each is not None):
        for claim, other in _at_odds(obj, seen):
            report.add("", f"{' '.join(claim)} is given twice ({other.source}, {obj.source})", _line(obj))
        for claim in of(obj):
            seen.setdefault(claim, obj)


def take(given: Iterable[model.Object], taken: Taken) -> list[model.Object]:
    """Return those in whose place nothing else is, in order; what they claim is taken then."""
    out = []
    for obj in given:
        claims = list(of(obj))
        if not any(claim in taken for claim in claims):
            for claim in claims:
                taken.setdefault(claim, obj)
            out.append(obj)
    return out


def clashes(
    given: Iterable[model.Object], taken: Mapping[Claim, model.Object], own: Collection[Claim] = ()
) -> list[tuple[int, str]]:
    """Return the line of each object whose name is taken, by another than who has `own`, and that in words."""
    return [(_line(obj), _clash(obj, claim, other)) for obj in given for claim, other in _at_odds(obj, taken, own)]


def _clash(obj: model.Object, claim: Claim, other: model.Object) -> str:
    """Return what two objects are at odds about: they may stand in one line."""
    whose, others = (" ".join(next(of(each), claim)) for each in (obj, other))
    what = " ".join(claim)
    if whose == what:
        return f"{what} is already declared in {other.source}"
    return f"{what} of {whose} is already declared in {other.source}, of {others}"


def held(files: Mapping[str, model.FileState]) -> dict[Claim, str]:
    """Return which file has each claim, of files in the order in which they were taken."""
    taken: Taken = {}
    return {
        claim: file for file, state in files.items() for obj in take(state.objects, taken) for claim in of(obj)
    }  # fmt: skip


def refused(
    new: Mapping[str, Iterable[model.Object]], old: Mapping[str, Iterable[model.Object]], holders: Mapping[Claim, str]
) -> dict[str, list[tuple[int, str]]]:
    """Return which of the files in `new` cannot be taken, for what another claims, and that as `clashes` does.

    What a file had before it keeps for as long as it claims it, whatever else changes in it; the order of names decides
    between two that are both new to it. A file that is refused goes on to claim what it gave before, its `old`.
    """
    claimants: dict[Claim, list[str]] = {}
    for file, given in new.items():
        for claim in {claim: None for obj in given for claim in of(obj)}:
            claimants.setdefault(claim, []).append(file)
    kept: Taken = {}
    out: dict[str, list[tuple[int, str]]] = {}
    todo: list[Claim] = []

    def keep(file: str, given: Iterable[model.Object]) -> None:
        for obj in given:
            for claim in of(obj):
                if holders.get(claim) == file:
                    kept[claim] = obj
                    todo.append(claim)

    def refuse(file: str, taken: Taken, claim: Claim) -> None:
        out[file] = clashes(new[file], {claim: taken[claim]})
        keep(file, old.get(file, ()))

    for file in {**old, **new}:
        keep(file, new.get(file, old.get(file, ())))
    taken: Taken = {}
    while True:
        while todo:
            claim = todo.pop()
            for file in claimants.get(claim, ()):
                if file != holders[claim] and file not in out:
                    refuse(file, kept, claim)
        taken = {}
        for file in sorted(new.keys() - out.keys()):
            own = [(claim, obj) for obj in new[file] for claim in of(obj)]
            clash = next((claim for claim, _ in own if claim in taken), None)
            if clash is not None:
                refuse(file, taken, clash)
            else:
                taken.update(own)
        if not todo:
            break
    everything = {**taken, **kept}
    for file, first in out.items():  # all that it is at odds with, now that it is known who is taken
        ours = {claim for obj in new[file] for claim in of(obj) if holders.get(claim) == file}
        out[file] = clashes(new[file], everything, ours) or first
    return out
